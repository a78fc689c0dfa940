/**
 * Ends a server when the process that started it ends, even by SIGKILL, after which no exit handler
 * runs. A shell waits for the end of its standard input, which only this process holds open. Then
 * it ends the server and removes the directory, so that a killed test leaves nothing behind.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** The shell that waits. */
export interface Guard {
  /** Ends the server now. Resolves when the server and its directory are gone. */
  end(): Promise<void>;
}

/** What is guarded. */
export interface Guarded {
  /** Removed at the end. */
  readonly directory: string;
  /** Its first line is the server's process id. It is read only at the end. */
  readonly pidFile: string;
  /** The signal that ends the server, without `SIG`. */
  readonly signal: 'QUIT' | 'TERM';
}

// rm is repeated for a while, since initdb may still be writing files.
const script = `
directory=$1 pid_file=$2 signal=$3 tries=0
cat >/dev/null
if pid=$(head -n 1 "$pid_file" 2>/dev/null) && kill -s "$signal" "$pid" 2>/dev/null; then
  while [ -e "$pid_file" ] && kill -s 0 "$pid" 2>/dev/null && [ $tries -lt 200 ]; do
    sleep 0.05
    tries=$((tries + 1))
  done
fi
until rm -rf "$directory" 2>/dev/null || [ $tries -gt 200 ]; do
  sleep 0.1
  tries=$((tries + 1))
done
`;

/** Starts the guard, a process of 1 MB. */
export function startGuard({ directory, pidFile, signal }: Guarded): Guard {
  // In a session of its own: Ctrl-C in a terminal must not end the guard before the server.
  const shell = spawn('/bin/sh', ['-c', script, 'sh', directory, pidFile, signal], {
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  shell.unref();
  return {
    async end() {
      if (shell.exitCode !== null) return;
      shell.ref();
      shell.stdin.end();
      await once(shell, 'exit');
    },
  };
}

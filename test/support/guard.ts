/**
 * Ends a server with the process that started it, however that ends: an exit handler does not run
 * after SIGKILL. A small shell waits beside us for the end of its standard input, whose other end
 * only this process holds; then it ends the server and removes its directory. So a killed test
 * leaves nothing behind, and nothing has to be handled or swept up.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** The shell that waits. */
export interface Guard {
  /** Has it do its work now; resolves when all is gone. */
  end(): Promise<void>;
}

/** What is guarded. */
export interface Guarded {
  /** Removed at the end. */
  readonly directory: string;
  /** Its first line is the server's process id; looked for only at the end. */
  readonly pidFile: string;
  /** What ends the server, without `SIG`. */
  readonly signal: 'QUIT' | 'TERM';
}

// rm is tried again for a while: initdb may still be filling the directory
const script = `
directory=$1 pid_file=$2 signal=$3 tries=0
cat >/dev/null
if pid=$(head -n 1 "$pid_file" 2>/dev/null) && kill -s "$signal" "$pid" 2>/dev/null; then
  while [ -e "$pid_file" ] && kill -s 0 "$pid" 2>/dev/null && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done
fi
until rm -rf "$directory" 2>/dev/null || [ $tries -gt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
`;

/** Starts to guard; costs a process of 1 MB and no time. */
export function startGuard({ directory, pidFile, signal }: Guarded): Guard {
  // a session of its own: Ctrl-C in a terminal must not end the guard before the guarded
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

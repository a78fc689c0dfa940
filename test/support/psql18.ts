/**
 * psql 18 with libpq-oauth, which `npm run clients:install` puts into build-clients/. Another
 * program can be named by PGSSO_TEST_PSQL18. Tests that need it are skipped without it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Seen from build/test/support. */
const installed = fileURLToPath(new URL('../../../build-clients/psql', import.meta.url));
const program = process.env['PGSSO_TEST_PSQL18'] ?? installed;

/** For the option `skip` of a test: false if there is the program. */
export const withoutPsql18 = existsSync(program)
  ? false
  : 'no psql 18 with libpq-oauth: npm run clients:install, on Debian';

/** A psql that runs, and what it has printed. */
export interface Psql {
  readonly child: ChildProcess;
  /** Standard output and standard error. */
  readonly output: () => string;
  /** Waits until the output has this, and returns the match. */
  printed(pattern: RegExp): Promise<RegExpExecArray>;
  /** The exit status. */
  readonly ended: Promise<number | null>;
}

/** Starts psql 18 with a conninfo string and a statement. */
export function startPsql18(conninfo: string, sql: string): Psql {
  // libpq takes plain http and prints what it does only if it is told that this is unsafe.
  const env = { PATH: process.env['PATH'], PGOAUTHDEBUG: 'UNSAFE' };
  return follow(spawn(program, ['-XAtq', '-c', sql, conninfo], { env }));
}

/** Follows what a process prints. */
export function follow(child: ChildProcess): Psql {
  let output = '';
  const listeners = new Set<() => void>();
  const ended = new Promise<number | null>((resolve) =>
    child.once('error', () => resolve(-1)).once('close', resolve),
  );
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (text) => {
      output += text;
      for (const look of listeners) look();
    });
  return {
    child,
    output: () => output,
    ended,
    async printed(pattern) {
      const found = new Promise<RegExpExecArray>((resolve) => {
        const look = (): void => {
          const match = pattern.exec(output);
          if (!match) return;
          listeners.delete(look);
          resolve(match);
        };
        listeners.add(look);
        look();
      });
      const lost = ended.then(() => {
        throw new Error(`it ended without ${pattern}: ${output}`);
      });
      return Promise.race([found, lost]);
    },
  };
}

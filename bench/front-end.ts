/** `pgsso serve` in its own process, which a benchmark can measure from outside. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AUDIENCE, ISSUER } from '../test/support/front-end.ts';
import { keySetText, testKey } from '../test/support/tokens.ts';

/** A running front-end. */
export interface BenchFrontEnd {
  readonly port: number;
  /** Resident memory, in kB. */
  residentKb(): number;
  /** User and system CPU time so far, in seconds. */
  cpuSeconds(): number;
  stop(): Promise<void>;
}

/** The command line of this build. */
const OWN_CLI = fileURLToPath(new URL('../src/cli.js', import.meta.url));

/**
 * Starts it for a backend, with settings that accept the tokens of the tests.
 *
 * @param cli the command line of another build, to compare the two
 */
export async function startBenchFrontEnd(
  backend: string,
  options: readonly string[] = [],
  cli = OWN_CLI,
): Promise<BenchFrontEnd> {
  const dataDir = mkdtempSync(join(tmpdir(), 'pgsso-bench-'));
  const settings = {
    'server.jwt_authentication.enabled': 'true',
    'server.jwt_authentication.issuers.configuration': ISSUER,
    'server.jwt_authentication.audience': AUDIENCE,
    'server.jwt_authentication.jwks': keySetText(testKey('RS256')),
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
  const common = [
    'serve',
    '--listen',
    '127.0.0.1:0',
    '--backend',
    backend,
    '--backend-auth',
    'trust',
    '--data-dir',
    dataDir,
  ];
  const child = spawn(
    process.execPath,
    [cli, ...common, '--log-format', 'json', ...flags, ...options],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    let log = '';
    child.stderr.on('data', (chunk) => {
      if (log.includes('"listen"')) return;
      log += chunk;
      const listen = /"listen":\["127\.0\.0\.1:(\d+)"/.exec(log)?.[1];
      if (listen !== undefined) resolve(Number(listen));
    });
    child.once('exit', () => reject(new Error(`the front-end did not start: ${log}`)));
  });
  return {
    port,
    residentKb: () =>
      Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]),
    cpuSeconds() {
      // Behind the name in parentheses, utime and stime are the 12th and 13th field, in ticks of
      // 10 ms (proc(5)).
      const [, fields = ''] = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ');
      const [user = 0, system = 0] = fields.split(' ').slice(11, 13).map(Number);
      return (user + system) / 100;
    },
    async stop() {
      child.kill('SIGTERM');
      child.kill('SIGTERM');
      await once(child, 'exit');
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

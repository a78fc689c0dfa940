/** `pgsso serve` in its own process, which a benchmark can measure from outside. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AUDIENCE, ISSUER } from '../test/support/front-end.ts';
import { keySetText, testKey } from '../test/support/tokens.ts';
import { type Program, usage } from './programs.ts';

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
): Promise<Program> {
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
    name: 'pgsso',
    port,
    ...usage(child.pid ?? 0),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      child.kill('SIGTERM');
      await once(child, 'exit');
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

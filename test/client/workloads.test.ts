/**
 * The recipes of docs/workloads.md, as they stand there, against fixtures that answer as the
 * platform does by its documentation.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { givenToken } from '../../src/client/given-token.ts';
import { token } from '../support/front-end.ts';
import { SERVICE, startPeopleProvider } from '../support/people-provider.ts';
import { newUser } from './world.ts';

const { signal } = new AbortController();

/** The token that such an environment gives. */
const given = (env: NodeJS.ProcessEnv) => givenToken({ PATH: process.env['PATH'], ...env }, signal);

const page = readFileSync(new URL('../../../docs/workloads.md', import.meta.url), 'utf8');
const expected = token('reporting');

/** The variables that a section of the page exports, each as often as it does. */
function recipes(section: string): [name: string, value: string][] {
  const [, text = ''] = page.split(`\n## ${section}\n`);
  const lines = text.split('\n## ')[0]?.matchAll(/^ {4}export (PGSSO_\w+)=(.*)$/gm) ?? [];
  return Array.from(lines, ([, name = '', value = '']) => [name, value.replace(/^'(.*)'$/, '$1')]);
}

const missing = ['curl', 'jq'].filter((name) => spawnSync(name, ['--version']).error);
const skip = missing.length > 0 ? `${missing.join(' and ')} not installed` : false;

/** A server that answers only the right request. */
async function serve(t: Test, answer: (request: IncomingMessage) => string | undefined) {
  const server = createServer((request, response) => {
    const text = answer(request);
    response.statusCode = text === undefined ? 403 : 200;
    response.end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const address = server.address();
  return address !== null && typeof address === 'object' ? address.port : 0;
}

/** A program that prints a text if its arguments are these. Otherwise it fails. */
function program(folder: string, name: string, args: string, text: string): void {
  const script = `#!/bin/sh\n[ "$*" = '${args}' ] && cat <<'END' || exit 1\n${text}\nEND\n`;
  writeFileSync(join(folder, name), script);
  chmodSync(join(folder, name), 0o755);
}

t.test('the metadata server of Google Cloud', { skip }, async (t) => {
  const [[, command = ''] = []] = recipes('Google Cloud');
  const identity = '/computeMetadata/v1/instance/service-accounts/default/identity';
  const port = await serve(t, ({ url, headers }) => {
    const asked = new URL(url ?? '');
    const isRight =
      headers['metadata-flavor'] === 'Google' &&
      asked.host === 'metadata.google.internal' &&
      asked.pathname === identity &&
      asked.searchParams.get('audience') === 'databases';
    return isRight ? expected : undefined;
  });
  const proxy = { http_proxy: `http://127.0.0.1:${port}` };
  t.match(await given({ PGSSO_TOKEN_COMMAND: command, ...proxy }), { token: expected });
});

t.test('the programs of the platforms', { skip }, async (t) => {
  const svids = JSON.stringify([{ svids: [{ spiffe_id: 'spiffe://x/y', svid: expected }] }]);
  const rows: [section: string, index: number, name: string, output: string][] = [
    ['Google Cloud', 1, 'gcloud', expected],
    ['Azure', 0, 'az', expected],
    ['Vault', 0, 'vault', expected],
    ['SPIFFE', 0, 'spire-agent', svids],
  ];
  for (const [section, index, name, output] of rows) {
    const user = newUser();
    const [, command = ''] = recipes(section)[index] ?? [];
    const [, args = ''] = new RegExp(`^${name} ([^|]*?)(?: \\||$)`).exec(command) ?? [];
    program(user.home, name, args, output);
    const env = { PGSSO_TOKEN_COMMAND: command, PATH: `${user.home}:${process.env['PATH']}` };
    t.match(await given(env), { token: expected }, section);
    program(user.home, name, 'nothing', '');
    await t.rejects(given(env), { message: /^PGSSO_TOKEN_COMMAND: / }, `${section} refuses`);
  }
});

t.test('the token of a GitHub job, by its request', { skip }, async (t) => {
  const [[, command = ''] = []] = recipes('GitHub Actions');
  const port = await serve(t, ({ url, headers }) =>
    url === '/token?api-version=2.0&audience=databases' && headers.authorization === 'bearer r-1'
      ? JSON.stringify({ count: expected.length, value: expected })
      : undefined,
  );
  const job = {
    PGSSO_TOKEN_COMMAND: command,
    ACTIONS_ID_TOKEN_REQUEST_URL: `http://127.0.0.1:${port}/token?api-version=2.0`,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'r-1',
  };
  t.match(await given(job), { token: expected });
  const without = { ...job, ACTIONS_ID_TOKEN_REQUEST_TOKEN: '' };
  await t.rejects(given(without), { message: /it gives no token/ });
});

t.test('a projected token of Kubernetes, which the kubelet replaces', async (t) => {
  const [[name = '', path = ''] = []] = recipes('Kubernetes');
  t.equal(name, 'PGSSO_TOKEN_FILE');
  const user = newUser();
  const volume = join(user.home, 'volume');
  // The kubelet writes a folder, and a link that it renames in one step.
  const put = (folder: string, text: string): void => {
    mkdirSync(join(volume, folder), { recursive: true });
    writeFileSync(join(volume, folder, 'token'), text, { mode: 0o644 });
    symlinkSync(folder, join(volume, '..data_tmp'));
    renameSync(join(volume, '..data_tmp'), join(volume, '..data'));
  };
  put('..first', token('first'));
  symlinkSync('..data/token', join(volume, 'token'));
  const env = { [name]: path.replace(/^.*(?=\/)/, volume) };
  const first = await given(env);
  put('..second', token('second'));
  rmSync(join(volume, '..first'), { recursive: true });
  const second = await given(env);
  t.ok(first && second);
  t.not(first?.token, second?.token);
});

t.test('client credentials, at Cognito and anywhere else', async (t) => {
  const provider = await startPeopleProvider({ audience: 'urn:databases' });
  t.teardown(() => provider.stop());
  for (const section of ['AWS Cognito', 'OAuth client credentials']) {
    const user = newUser();
    const file = join(user.home, 'secret');
    writeFileSync(file, SERVICE.secret, { mode: 0o600 });
    const env = Object.fromEntries(recipes(section));
    t.hasProps(env, ['PGSSO_ISSUER', 'PGSSO_CLIENT_ID', 'PGSSO_CLIENT_SECRET_FILE'], section);
    const here = {
      ...env,
      PGSSO_ISSUER: provider.issuer,
      PGSSO_CLIENT_ID: SERVICE.id,
      PGSSO_CLIENT_SECRET_FILE: file,
      PGSSO_SCOPE: '',
    };
    const outcome = await user.run(['token', '--json'], here);
    t.match(outcome, { status: 0, stderr: '' }, section);
    t.match(JSON.parse(outcome.stdout), { issuer: provider.issuer }, section);
  }
});

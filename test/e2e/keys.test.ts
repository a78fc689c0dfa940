/**
 * Keys and client credentials from a real OpenID provider, and the metrics and health checks for
 * operators, with a front-end before a real PostgreSQL.
 */

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import t from 'tap';
import { JWT_OPTION, startFrontEnd, token } from '../support/front-end.ts';
import { startProvider } from '../support/oidc.ts';
import { startPostgres } from '../support/postgres.ts';

const AUDIENCE = 'https://databases.example';
const SECRET = 'a secret: with % and +';

const database = await startPostgres({
  initSql: ['CREATE ROLE alice LOGIN', 'CREATE ROLE reporting LOGIN'],
});
t.teardown(() => database.close());
const provider = await startProvider({
  audience: AUDIENCE,
  clients: [{ id: 'alice' }, { id: 'reporting', secret: SECRET, algorithm: 'ES256' }],
});
t.teardown(() => provider.stop());
const backend = `postgres:///?host=${encodeURIComponent(database.socketDir)}&port=${database.port}`;
const frontEnd = await startFrontEnd(backend, {
  metricsListen: { host: '127.0.0.1', port: 0 },
  settings: {
    'server.jwt_authentication.issuers.configuration': provider.issuer,
    'server.jwt_authentication.audience': AUDIENCE,
    'server.jwt_authentication.jwks': '{"keys":[]}',
    'server.jwt_authentication.jwks_auto_fetch.enabled': 'true',
    'pgsso.client_credentials.issuer': provider.issuer,
  },
});
t.teardown(() => frontEnd.close());

async function logIn(user: string, password: string): Promise<string> {
  const { port } = frontEnd;
  const client = new pg.Client({
    host: '127.0.0.1',
    port,
    user,
    password,
    database: 'postgres',
    options: JWT_OPTION,
  });
  try {
    await client.connect();
    const { rows } = await client.query('SELECT session_user');
    return rows[0].session_user;
  } catch (error) {
    return (error as pg.DatabaseError).code ?? String(error);
  } finally {
    await client.end();
  }
}

async function get(path: string): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${frontEnd.metricsPort}${path}`);
  return { status: response.status, text: await response.text() };
}

t.test('a token of a real provider is accepted if only its issuer is configured', async (t) => {
  t.equal(await logIn('alice', await provider.token({ clientId: 'alice' })), 'alice');
  t.match(await frontEnd.event({ event: 'keys', outcome: 'changed' }), {
    issuer: provider.issuer,
    added: ['rsa', 'ec'],
  });
});

t.test('the id and secret of a client are accepted in place of a token', async (t) => {
  t.equal(await logIn('reporting', SECRET), 'reporting');
  t.equal(await logIn('reporting', `${SECRET}?`), '28P01');
  t.match(await frontEnd.event({ event: 'login', code: 'client_credentials_refused' }), {
    reason: /status 401, error invalid_client/,
    fault: 'client',
  });
  t.notOk(JSON.stringify(frontEnd.events).includes(SECRET), 'the secret is not in the log');
});

t.test('logins, sessions, bytes and keys are counted', async (t) => {
  t.equal(await logIn('alice', token('alice', { iss: 'https://evil.example' })), '28000');
  const { text } = await get('/metrics');
  const logins = (labels: string, count: number): RegExp =>
    new RegExp(`^pgsso_logins_total\\{method="token",${labels}\\} ${count}$`, 'm');
  for (const line of [
    logins('outcome="accepted",code="",fault=""', 2),
    logins('outcome="refused",code="invalid_issuer",fault="client"', 1),
    logins('outcome="refused",code="client_credentials_refused",fault="client"', 1),
    /^pgsso_login_duration_seconds_count\{method="token",outcome="accepted"\} 2$/m,
    /^pgsso_sessions \d$/m,
    /^pgsso_session_bytes_total\{direction="to_client"\} [1-9]\d+$/m,
    /^pgsso_cancels_dropped_total 0$/m,
    /^pgsso_key_fetches_total\{issuer=".*",outcome="ok"\} 1$/m,
    /^pgsso_key_set_age_seconds\{issuer=".*"\} \d/m,
    /^pgsso_issuer_away\{issuer=".*"\} 0$/m,
    /^pgsso_signatures_total\{known="false"\} 2$/m,
    /^process_cpu_seconds_total \d/m,
  ]) {
    t.match(text, line);
  }
});

t.test('docs/metrics.md describes exactly the metrics that are served', async (t) => {
  const { text } = await get('/metrics');
  const manual = await readFile(new URL('../../../docs/metrics.md', import.meta.url), 'utf8');
  const measured = [...text.matchAll(/^# TYPE (pgsso_\w+)/gm)].map(([, name]) => name).sort();
  // Those of workers are looked at in server/workers.test.ts.
  const rows = manual.replace(/^.*\| With `--workers`.*\n/gm, '');
  const described = [...rows.matchAll(/^\| `(pgsso_\w+)`/gm)].map(([, name]) => name).sort();
  t.strictSame(described, measured);
});

t.test('health and readiness', async (t) => {
  t.strictSame(await get('/healthz'), { status: 200, text: 'ok\n' });
  t.strictSame(await get('/readyz'), { status: 200, text: 'ok\n' });
  t.equal((await get('/')).status, 404);
  const post = await fetch(`http://127.0.0.1:${frontEnd.metricsPort}/metrics`, { method: 'POST' });
  t.equal(post.status, 405);
});

t.test('a front-end is not ready before each issuer was tried, and while it drains', async (t) => {
  const silent = createServer(() => undefined);
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  t.teardown(() => silent.closeAllConnections());
  t.teardown(() => silent.close());
  const { port } = silent.address() as AddressInfo;
  const waiting = await startFrontEnd(backend, {
    metricsListen: { host: '127.0.0.1', port: 0 },
    settings: {
      'server.jwt_authentication.issuers.configuration': `http://127.0.0.1:${port}`,
      'server.jwt_authentication.jwks_auto_fetch.enabled': 'true',
    },
  });
  const ready = (): Promise<Response> => fetch(`http://127.0.0.1:${waiting.metricsPort}/readyz`);
  const answer = await ready();
  t.equal(answer.status, 503);
  t.equal(await answer.text(), 'the keys of an issuer have not been fetched yet\n');
  await waiting.close();
  await t.rejects(ready(), 'the address is closed');
  t.notOk(
    waiting.events.some(({ event }) => event === 'keys'),
    'a fetch that is cut off by the shutdown is not logged as a failure',
  );

  const client = new pg.Client({
    host: '127.0.0.1',
    port: frontEnd.port,
    user: 'alice',
    password: await provider.token({ clientId: 'alice' }),
    database: 'postgres',
    options: JWT_OPTION,
  });
  await client.connect();
  const drained = frontEnd.drain();
  const draining = await get('/readyz');
  t.strictSame(draining, { status: 503, text: 'draining\n' });
  await client.end();
  await drained;
});

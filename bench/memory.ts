/**
 * `npm run bench:memory`: the resident memory of a connection, as the slope between two numbers of
 * connections, because the process needs memory without any. Linux only (/proc). Limits: 100 kB for
 * a login in progress, 30 kB for an idle session, nothing for a refused password of 64 kB.
 */

import { BACKEND } from '../src/wire/constants.ts';
import { token } from '../test/support/front-end.ts';
import { password, RawClient, tokenStartup } from '../test/support/raw-client.ts';
import { startBenchFrontEnd } from './front-end.ts';
import { memorySlope } from './slope.ts';
import { startStubBackend } from './stub-backend.ts';

const FROM = 1000;
const TO = 3000;

const stub = await startStubBackend();
const backend = `postgres://127.0.0.1:${stub.port}?sslmode=disable`;
const limits = ['--max-logins', '10000', '--max-sessions', '10000', '--login-timeout', '5m'];
const jwt = password(token('alice'));

console.log('resident memory of the front-end, kB a connection (slope from %d to %d)\n', FROM, TO);
await slope('login at the password prompt', async (client) => {
  client.send(tokenStartup({ user: 'alice' }));
  await client.until(BACKEND.authentication);
});
await slope('login with 60 kB of a password', async (client) => {
  client.send(tokenStartup({ user: 'alice' }));
  await client.until(BACKEND.authentication);
  client.send(password('x'.repeat(65_000)).subarray(0, 60_000));
});
await slope('idle session', async (client) => {
  client.send(tokenStartup({ user: 'alice' }), jwt);
  await client.until(BACKEND.readyForQuery);
});
await refusals();
stub.server.close();
process.exit(0);

async function slope(what: string, open: (client: RawClient) => Promise<void>): Promise<void> {
  const frontEnd = await startBenchFrontEnd(backend, limits);
  const connect = async (): Promise<RawClient> => {
    const client = await RawClient.connect(frontEnd.port);
    await open(client);
    return client;
  };
  const kb = await memorySlope(frontEnd, connect, FROM, TO);
  console.log('  %s  %s', what.padEnd(34), kb.toFixed(1).padStart(6));
  await frontEnd.stop();
}

/** Waves of refused logins. What the last waves add is what a refused login leaves. */
async function refusals(): Promise<void> {
  const frontEnd = await startBenchFrontEnd(backend, limits);
  const bad = password('x'.repeat(65_000));
  const wave = async (): Promise<number> => {
    for (let i = 0; i < 20; i++) {
      await Promise.all(
        Array.from({ length: 50 }, async () => {
          const client = await RawClient.connect(frontEnd.port);
          client.send(tokenStartup({ user: 'alice' }), bad);
          await client.error();
          client.close();
        }),
      );
    }
    return frontEnd.residentKb();
  };
  // The heap of a new process grows until the garbage collector runs regularly, which takes fewer
  // than six waves.
  for (let i = 0; i < 6; i++) await wave();
  const before = frontEnd.residentKb();
  for (let i = 0; i < 6; i++) await wave();
  const left = (frontEnd.residentKb() - before) / 6000;
  console.log(
    '  %s  %s',
    'left by a refused 64 kB password'.padEnd(34),
    left.toFixed(2).padStart(6),
  );
  await frontEnd.stop();
}

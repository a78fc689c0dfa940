/**
 * A pgsso that is killed during changes still has every acknowledged change when it starts again.
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import t from 'tap';
import { ready } from '../cli/command-line.ts';

const SETTINGS = [
  'server.jwt_authentication.claim',
  'server.jwt_authentication.group_claim',
  'server.jwt_authentication.audience',
];
const ROUNDS = 5;
const CHANGES = 50;

t.test(
  'SIGKILL during 250 random SETs loses no acknowledged change',
  { timeout: 200_000 },
  async (t) => {
    const dataDir = await mkdtemp(join(tmpdir(), 'pgsso-killed-'));
    t.teardown(() => rm(dataDir, { recursive: true, force: true }));
    const port = await freePort();
    const args = [
      'serve',
      '--backend',
      'postgres:///?host=/tmp',
      '--backend-auth',
      'trust',
      '--listen',
      `127.0.0.1:${port}`,
    ];
    const acknowledged = new Map<string, string>();
    let asked: { name: string; value: string } | undefined;

    for (let round = 0; round <= ROUNDS; round++) {
      const { child: server } = await ready([...args, '--data-dir', dataDir]);
      const gone = once(server, 'exit');
      const client = new pg.Client({ host: dataDir, port, database: 'pgsso', user: 'operator' });
      client.on('error', () => undefined);
      await client.connect();
      for (const [name, value] of acknowledged) {
        const { rows } = await client.query(`SHOW CLUSTER SETTING ${name}`);
        // The change that was under way may be durable without being acknowledged.
        const allowed = asked?.name === name ? [value, asked.value] : [value];
        t.ok(
          allowed.includes(rows[0][name]),
          `round ${round}: ${name} is ${rows[0][name]}, acknowledged was ${value}`,
        );
        acknowledged.set(name, rows[0][name]);
      }
      asked = undefined;
      try {
        for (let step = 0; step < CHANGES && round < ROUNDS; step++) {
          const name = SETTINGS[Math.floor(Math.random() * SETTINGS.length)] ?? '';
          const value = `v${round}-${step}-${'x'.repeat(Math.random() * 5000)}`;
          asked = { name, value };
          const done = client.query(`SET CLUSTER SETTING ${name} = $1`, [value]);
          // The last change is under way when the process dies.
          if (step === CHANGES - 1) server.kill('SIGKILL');
          await done;
          acknowledged.set(name, value);
          asked = undefined;
        }
      } catch {
        t.ok(asked, 'only the change under way has no reply');
      }
      server.kill('SIGKILL');
      await gone;
      await client.end().catch(() => undefined);
    }
  },
);

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return address !== null && typeof address === 'object' ? address.port : 0;
}

/**
 * `npm run demo`: PostgreSQL, an OpenID provider and pgsso on this machine, a login through them,
 * and lines to try it with. Stays up until Ctrl-C; `--once` ends after the story, with status 0 if
 * all was as it should be and 1 if not. Nothing stays behind.
 */

import { parseArgs } from 'node:util';
import { errorText } from '../src/lib/errors.ts';
import { startProvider } from '../test/support/oidc.ts';
import { startPostgres } from '../test/support/postgres.ts';
import { startFrontEnd } from './front-end.ts';
import { pasteLines, tellStory } from './story.ts';
import { alice, audience, preparation, settings } from './world.ts';

const { values: flags } = parseArgs({ options: { once: { type: 'boolean', default: false } } });

/** Ends what was started, the last first. */
const endings: (() => Promise<void>)[] = [];

const interrupted = new Promise<'interrupted'>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => resolve('interrupted'));
});

let status: number;
try {
  // what is still being started when Ctrl-C comes is not waited for: its guard ends it with this
  // process
  const outcome = await Promise.race([play(), interrupted]);
  status = outcome === 'interrupted' && flags.once ? 130 : 0;
} catch (error) {
  process.stderr.write(`\nThe demo failed: ${errorText(error)}\n`);
  status = 1;
}
for (const end of endings.reverse()) await end();
process.exit(status);

async function play(): Promise<void> {
  print('Starting PostgreSQL, an OpenID provider and pgsso …');
  const [postgres, provider] = await Promise.all([
    // reachable by its Unix socket only: pgsso is the one way in from the network
    startPostgres({ hba: ['local all all trust'], initSql: preparation }).then((server) => {
      endings.push(() => server.close());
      return server;
    }),
    startProvider({ clients: [alice], audience }).then((server) => {
      endings.push(() => server.stop());
      return server;
    }),
  ]);
  const backend = `postgres:///?host=${encodeURIComponent(postgres.socketDir)}&port=${postgres.port}`;
  const frontEnd = await startFrontEnd([
    '--backend',
    backend,
    '--backend-auth',
    'trust',
    ...settings(provider.issuer, provider.jwks),
  ]);
  endings.push(() => frontEnd.stop());
  const { rows } = await postgres.query(`SELECT current_setting('server_version') AS version`);
  print(`   PostgreSQL ${rows[0].version}  ${postgres.socketDir}`);
  print(`   OpenID provider  ${provider.issuer}`);
  print(`   pgsso            127.0.0.1:${frontEnd.port}`);

  const scene = { issuer: provider.issuer, host: '127.0.0.1', port: frontEnd.port };
  const fetchToken = (tokenAudience = audience) =>
    provider.token({ clientId: alice.id, audience: tokenAudience });
  const token = await tellStory({ ...scene, fetchToken }, print);
  print(`\n${pasteLines(scene.host, scene.port, token, undefined)}`);
  if (flags.once) return;

  print('Ctrl-C ends it all. The log of pgsso:\n');
  frontEnd.showLog();
  throw new Error(`pgsso ended: ${await frontEnd.ended}`);
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

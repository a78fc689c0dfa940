/**
 * `npm run demo`: starts PostgreSQL, an OpenID provider and pgsso on this machine, shows logins and
 * prints lines to paste. It runs until Ctrl-C. With `--once` it ends after the story, with status 0
 * if every step was as expected and 1 if not. It leaves no process and no file behind.
 */

import { parseArgs } from 'node:util';
import { errorText } from '../src/lib/errors.ts';
import { startProvider } from '../test/support/oidc.ts';
import { startPostgres } from '../test/support/postgres.ts';
import { startFrontEnd } from './front-end.ts';
import { pasteLines, tellStory } from './story.ts';
import { alice, audience, preparation, settings } from './world.ts';

const { values: flags } = parseArgs({ options: { once: { type: 'boolean', default: false } } });

/** Ends what was started. They are called from the last to the first. */
const endings: (() => Promise<void>)[] = [];

const interrupted = new Promise<'interrupted'>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => resolve('interrupted'));
});

let status: number;
try {
  // Ctrl-C does not wait for a server that is still starting. Its guard ends it.
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
    // It accepts logins over its Unix socket only: the network reaches it through pgsso alone.
    startPostgres({ hba: ['local all all trust'], initSql: preparation }).then((server) => {
      endings.push(() => server.close());
      return server;
    }),
    startProvider({ clients: [alice], audience }).then((server) => {
      endings.push(() => server.stop());
      return server;
    }),
  ]);
  const socketDir = encodeURIComponent(postgres.socketDir);
  const backend = `postgres:///?host=${socketDir}&port=${postgres.port}`;
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

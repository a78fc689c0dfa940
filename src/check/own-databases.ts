/**
 * Checks the databases that pgsso logs in to as itself: that of `--directory` and that of
 * `--settings`. Whether the login works, and whether the role may do what pgsso will do. Nothing is
 * changed.
 */
import pg from 'pg';
import { UsageError } from '../lib/errors.ts';
import { clientConfig, openDatabaseLogin } from '../server/database-login.ts';
import { type OpenDirectory, openDirectory, vetWithDirectory } from '../server/directory.ts';
import type { ServeOptions } from '../server/options.ts';
import type { SettingValues } from '../settings/snapshot.ts';
import { directorySettings } from '../settings/store/store.ts';
import { about, type Finding, reasonOf } from './finding.ts';

/** For the connection, and again for the answer. */
const TIMEOUT_MS = 10_000;

/** The findings about `--directory`. */
export interface CheckedDirectory {
  readonly findings: Finding[];
  /** The SQL user that pgsso logs in as there; undefined without a directory. */
  readonly user: string | undefined;
}

/**
 * Checks the directory, and that there is one if a setting needs it.
 *
 * @param values undefined if the settings cannot be read
 * @throws UsageError for a URL that cannot be right
 */
export async function checkDirectory(
  options: ServeOptions,
  values: SettingValues | undefined,
): Promise<CheckedDirectory> {
  const say = about('--directory');
  let opened: OpenDirectory | undefined;
  try {
    opened = await openDirectory(options);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    return { findings: [say('error', plainReason(error))], user: undefined };
  }
  if (!opened) {
    const needing = directorySettings.filter((name) => values?.[name]);
    const findings = needing.map((name) => say('error', `there is none, and ${name} needs it`));
    return { findings, user: undefined };
  }
  const { directory, user } = opened;
  try {
    const problem = await directory.problem();
    if (problem !== undefined) return { findings: [say('error', problem)], user };
    if (values) await vetWithDirectory(directory)(values, new Set(directorySettings));
    const findings = [say('ok', `${user} is logged in, and may do what the settings need`)];
    return { findings, user };
  } catch (error) {
    return { findings: [say('error', directoryReason(error, user))], user };
  } finally {
    await directory.close();
  }
}

/** The reason without the option, which is the subject of the finding. */
function plainReason(error: unknown): string {
  return reasonOf(error).replace(/^--(?:directory|settings): /, '');
}

/** PostgreSQL's words for a `cert` line that is found by a login without a certificate. */
const CERTIFICATE_WANTED = /valid client certificate/;

function directoryReason(error: unknown, user: string): string {
  const reason = plainReason(error);
  return CERTIFICATE_WANTED.test(reason)
    ? `${reason}: ADMIN OPTION on app_users makes ${user} a member of it; ` +
        'put a line of its own above the cert line in pg_hba.conf'
    : reason;
}

/**
 * Checks the database of the settings.
 *
 * @throws UsageError for a URL that cannot be right
 */
export async function checkSettingsDatabase({
  settingsUrl,
  sourceOf,
}: ServeOptions): Promise<Finding[]> {
  if (settingsUrl === undefined) return [];
  const say = about('--settings');
  let client: pg.Client | undefined;
  try {
    const login = await openDatabaseLogin('--settings', settingsUrl, sourceOf('settings'));
    client = new pg.Client({
      ...clientConfig(login),
      connectionTimeoutMillis: TIMEOUT_MS,
      query_timeout: TIMEOUT_MS,
    });
    // A connection that breaks between two statements is told by the next one.
    client.on('error', () => undefined);
    await client.connect();
    const problem = await settingsProblem(client, login.user);
    return [
      problem === undefined
        ? say('ok', `${login.user} is logged in, and may read and change the settings`)
        : say('error', problem),
    ];
  } catch (error) {
    if (error instanceof UsageError) throw error;
    return [say('error', plainReason(error))];
  } finally {
    await client?.end().catch(() => undefined);
  }
}

async function settingsProblem(client: pg.Client, user: string): Promise<string | undefined> {
  const { rows } = await client.query<{ made: boolean; makes: boolean }>(
    `SELECT pg_catalog.to_regclass('pgsso.settings_revision') IS NOT NULL AS made,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS makes`,
  );
  const [row] = rows;
  if (!row?.made)
    return row?.makes
      ? undefined
      : `the tables are not there, and ${user} may not make them: GRANT CREATE ON DATABASE … TO`;
  const { rows: refused } = await client.query<{ right: string; table: string }>(
    `SELECT privilege AS right, t AS table FROM
       pg_catalog.unnest(ARRAY['settings', 'settings_history', 'api_keys', 'settings_revision']) t,
       pg_catalog.unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) privilege
     WHERE NOT pg_catalog.has_table_privilege('pgsso.' || t, privilege)`,
  );
  if (refused.length === 0) return undefined;
  const rights = refused.map(({ right, table }) => `${right} on pgsso.${table}`).join(', ');
  return `${user} lacks ${rights}`;
}

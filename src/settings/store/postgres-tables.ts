/**
 * The tables of the store in PostgreSQL or CockroachDB, and the statements on them. Every name has
 * its schema and the connection's search_path is fixed, so that a table of another user cannot take
 * the place of one of these (CVE-2018-1058).
 */

import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { errorText, PgError } from '../../lib/errors.ts';
import { type ApiKey, type ApiKeyChange, type ApiKeys, checkApiKey } from '../api-keys.ts';
import type { HistoryEntry, SettingChange } from '../changes.ts';
import type { SettingName } from '../definitions.ts';
import { findSetting, parseSetting } from '../lookup.ts';
import type { StoredSetting, StoredSettings } from '../snapshot.ts';

/** The channel of LISTEN and NOTIFY. */
export const CHANNEL = 'pgsso_settings';

/** A row of the settings. */
export interface SettingRow {
  readonly name: string;
  readonly value: string;
  readonly changed_by: string;
  readonly changed_at: Date;
}

/** Changes that SHOW CLUSTER SETTING HISTORY lists, the newest ones. */
const HISTORY_LIMIT = 1000;

const CREATE = [
  'CREATE SCHEMA IF NOT EXISTS pgsso',
  `CREATE TABLE IF NOT EXISTS pgsso.settings (
     name text PRIMARY KEY, value text NOT NULL,
     changed_by text NOT NULL, changed_at timestamptz NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS pgsso.settings_history (
     id text PRIMARY KEY, name text NOT NULL, value text,
     changed_by text NOT NULL, changed_at timestamptz NOT NULL,
     revision bigint NOT NULL, step bigint NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS pgsso.api_keys (
     name text PRIMARY KEY, user_name text NOT NULL, sha256 text NOT NULL,
     created_by text NOT NULL, created_at timestamptz NOT NULL, expires_at timestamptz)`,
  `CREATE TABLE IF NOT EXISTS pgsso.settings_revision (
     one boolean PRIMARY KEY CHECK (one), revision bigint NOT NULL)`,
  'INSERT INTO pgsso.settings_revision VALUES (true, 0) ON CONFLICT DO NOTHING',
];

/** SQLSTATEs of an undefined table and an undefined schema. */
const MISSING = ['42P01', '3F000'];

/** SQLSTATEs of the slower one of two processes that create the tables at the same time. */
const TAKEN = ['23505', '42P06', '42P07', '42710', 'XX000', '40001'];

/** Creates missing tables. If none is missing, no right to create is needed. */
export async function createTables(client: pg.Client): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await client.query('SELECT revision FROM pgsso.settings_revision');
      await client.query('SELECT name FROM pgsso.api_keys LIMIT 0');
      return;
    } catch (error) {
      if (!hasCode(error, MISSING)) throw error;
    }
    try {
      for (const statement of CREATE) await client.query(statement);
    } catch (error) {
      if (!hasCode(error, TAKEN) || attempt === 5) throw error;
    }
  }
}

/** A text that differs whenever the settings or keys differ, also after a change by hand. */
export async function readFingerprint(client: pg.Client): Promise<string> {
  const { rows } = await client.query(
    `SELECT
       (SELECT md5(string_agg(
          name || chr(31) || value || chr(31) || changed_by || chr(31) || changed_at::text,
          chr(30) ORDER BY name))
        FROM pgsso.settings) AS settings,
       (SELECT md5(string_agg(
          name || chr(31) || user_name || chr(31) || sha256 || chr(31) || created_by || chr(31)
            || created_at::text || chr(31) || coalesce(expires_at::text, ''),
          chr(30) ORDER BY name))
        FROM pgsso.api_keys) AS keys`,
  );
  return `${rows[0].settings ?? ''} ${rows[0].keys ?? ''}`;
}

/** All rows of the settings. */
export async function readRows(client: pg.Client): Promise<readonly SettingRow[]> {
  return (
    await client.query<SettingRow>(
      'SELECT name, value, changed_by, changed_at FROM pgsso.settings ORDER BY name',
    )
  ).rows;
}

/**
 * The settings of the rows, each value checked again.
 *
 * @throws PgError 22023 that names the bad setting
 */
export function storedSettings(rows: readonly SettingRow[]): StoredSettings {
  const stored = new Map<SettingName, StoredSetting>();
  for (const { name: given, value, changed_by, changed_at } of rows) {
    try {
      const name = findSetting(given);
      stored.set(name, {
        text: parseSetting(name, value).text,
        user: changed_by,
        at: changed_at.getTime(),
      });
    } catch (error) {
      throw invalidStored(
        `setting ${given} in pgsso.settings: ${errorText(error)}`,
        'SET or RESET that setting first.',
      );
    }
  }
  return stored;
}

/**
 * All API keys, each checked again.
 *
 * @param dropped a key that is to be dropped, which is not checked
 * @throws PgError 22023 that names the bad key
 */
export async function readApiKeys(client: pg.Client, dropped?: string): Promise<ApiKeys> {
  const { rows } = await client.query(
    'SELECT name, user_name, sha256, created_by, created_at, expires_at FROM pgsso.api_keys',
  );
  const keys = rows.map(
    (row): ApiKey => ({
      name: row.name,
      user: row.user_name,
      digest: row.sha256,
      createdBy: row.created_by,
      // The driver returns `infinity` as a number, which the check refuses.
      createdAt: Number(row.created_at),
      expiresAt: row.expires_at === null ? undefined : Number(row.expires_at),
    }),
  );
  try {
    return new Map(keys.map((key) => [key.name, key.name === dropped ? key : checkApiKey(key)]));
  } catch (error) {
    throw invalidStored(`in pgsso.api_keys: ${errorText(error)}`, 'DROP that key first.');
  }
}

/** The newest changes, newest first. */
export async function readHistory(
  client: pg.Client,
  name: SettingName | undefined,
): Promise<readonly HistoryEntry[]> {
  const { rows } = await client.query(
    `SELECT name, value, changed_by, changed_at FROM pgsso.settings_history
     WHERE name = $1 OR $1 = '' ORDER BY revision DESC, step DESC LIMIT ${HISTORY_LIMIT}`,
    [name ?? ''],
  );
  return rows.map((row) => ({
    name: row.name,
    text: row.value ?? undefined,
    user: row.changed_by,
    at: row.changed_at.getTime(),
  }));
}

/**
 * Takes the lock of all changes, until the transaction ends.
 *
 * @returns the number of this change, and the database's time in milliseconds since the epoch
 */
export async function lockRevision(
  client: pg.Client,
): Promise<{ readonly revision: number; readonly at: number }> {
  const { rows } = await client.query(
    'SELECT revision, now() AS at FROM pgsso.settings_revision FOR UPDATE',
  );
  return { revision: Number(rows[0].revision) + 1, at: rows[0].at.getTime() };
}

/** Writes changes of settings and their history. */
export async function writeChanges(
  client: pg.Client,
  changes: readonly SettingChange[],
  history: readonly HistoryEntry[],
  revision: number,
): Promise<void> {
  for (const [step, change] of changes.entries()) {
    const entry = history[step];
    if (!entry) throw new Error('a change has no history entry');
    const at = new Date(entry.at);
    if (change.kind === 'reset')
      await client.query('DELETE FROM pgsso.settings WHERE name = $1', [change.name]);
    else {
      await client.query(
        `INSERT INTO pgsso.settings (name, value, changed_by, changed_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value,
           changed_by = excluded.changed_by, changed_at = excluded.changed_at`,
        [change.name, change.text, entry.user, at],
      );
    }
    await writeHistory(client, entry, revision, step);
  }
  await writeRevision(client, revision);
}

/** Writes a change of the API keys and its history. */
export async function writeApiKey(
  client: pg.Client,
  change: ApiKeyChange,
  history: HistoryEntry,
  revision: number,
): Promise<void> {
  const at = new Date(history.at);
  if (change.kind === 'drop')
    await client.query('DELETE FROM pgsso.api_keys WHERE name = $1', [change.name]);
  else {
    const { name, user, digest, expiresAt } = change;
    await client.query(
      `INSERT INTO pgsso.api_keys (name, user_name, sha256, created_by, created_at, expires_at)
       VALUES ($1, $2, $3, $4, $5, $6)`,
      [name, user, digest, history.user, at, expiresAt === undefined ? null : new Date(expiresAt)],
    );
  }
  await writeHistory(client, history, revision, 0);
  await writeRevision(client, revision);
}

/** Whether the error is of the database and has one of these SQLSTATEs. */
export function hasCode(error: unknown, codes: readonly string[]): boolean {
  return (
    error instanceof pg.DatabaseError && error.code !== undefined && codes.includes(error.code)
  );
}

async function writeHistory(
  client: pg.Client,
  entry: HistoryEntry,
  revision: number,
  step: number,
): Promise<void> {
  await client.query(
    `INSERT INTO pgsso.settings_history
       (id, name, value, changed_by, changed_at, revision, step)
     VALUES ($1, $2, $3, $4, $5, $6, $7)`,
    [randomUUID(), entry.name, entry.text ?? null, entry.user, new Date(entry.at), revision, step],
  );
}

async function writeRevision(client: pg.Client, revision: number): Promise<void> {
  await client.query('UPDATE pgsso.settings_revision SET revision = $1', [revision]);
}

function invalidStored(message: string, remedy: string): PgError {
  return new PgError({
    code: 'invalid_stored_setting',
    message,
    hint: `Nothing was changed. ${remedy}`,
    fault: 'us',
  });
}

/**
 * SHOW ISSUERS, SHOW STATS, SHOW USERS and SHOW VERSION: the state of the process and of the
 * directory.
 */
import type { DirectoryUser } from '../../directory/directory.ts';
import { PgError } from '../../lib/errors.ts';
import { settingWarnings } from '../../settings/warnings.ts';
import type { Rule } from '../language/reader.ts';
import { type Cell, type Column, textColumns } from '../results.ts';

const issuerColumns: readonly Column[] = [
  { name: 'issuer', type: 'text' },
  { name: 'source', type: 'text' },
  { name: 'keys', type: 'int8' },
  { name: 'key_ids', type: 'text' },
  { name: 'fetched_at', type: 'text' },
  { name: 'age_seconds', type: 'int8' },
  { name: 'last_error', type: 'text' },
];

/**
 * SHOW ISSUERS: the configured issuers and what is known of their keys. Doubtful settings and
 * settings that could not be read are shown as WARNINGs.
 */
export const showIssuers: Rule = {
  begins: 'SHOW ISSUERS',
  help: {
    syntax: 'SHOW ISSUERS',
    does:
      'the issuers, the source, number, ids and age of their keys, ' +
      'why keys could not be had; doubtful settings as warnings',
  },
  parse: () => ({
    tag: 'SHOW',
    columns: issuerColumns,
    requires: { right: 'view', to: 'show issuers' },
    run({ services: { keys, settings, now } }) {
      const { values } = settings.current;
      const { problem } = settings;
      return {
        rows: keys
          .describe(values)
          .map(({ issuer, source, keyCount, keyIds, fetchedAt, lastError }) => [
            issuer,
            source,
            keyCount,
            keyIds.join(' '),
            fetchedAt === undefined ? undefined : new Date(fetchedAt).toISOString(),
            fetchedAt === undefined
              ? undefined
              : Math.max(0, Math.round((now() - fetchedAt) / 1000)),
            lastError,
          ]),
        warnings: [
          ...settingWarnings(values),
          ...(problem === undefined ? [] : [`settings not read: ${problem}`]),
        ],
      };
    },
  }),
};

/** SHOW STATS: a row for each figure of this node since its start. */
export const showStats: Rule = {
  begins: 'SHOW STATS',
  help: {
    syntax: 'SHOW STATS',
    does: 'logins accepted and refused by reason, sessions, bytes and times of this node',
  },
  parse: () => ({
    tag: 'SHOW',
    columns: textColumns('name', 'value'),
    requires: { right: 'view', to: 'show statistics' },
    async run({ services: { metrics, sessions, copy, settings, now } }) {
      const figures = await metrics.figures();
      const { startedAt, accepted, refused, refusalsDelayed, loginMs, sessionsEnded, bytes } =
        figures;
      const rows: Cell[][] = [
        ['started', new Date(startedAt).toISOString()],
        ['uptime_seconds', Math.round((now() - startedAt) / 1000)],
        ['logins_accepted.token', accepted.token],
        ['logins_accepted.native', accepted.native],
        ...[...refused]
          .sort(([left], [right]) => (left < right ? -1 : 1))
          .map(([code, count]) => [`logins_refused.${code}`, count]),
        ['refusals.delayed', refusalsDelayed],
        ['device_logins.waiting', figures.deviceLoginsWaiting],
        ...[...figures.deviceLogins].map(([outcome, count]) => [`device_logins.${outcome}`, count]),
        ['login_ms.mean', loginMs && Math.round(loginMs.mean * 10) / 10],
        ['login_ms.max', loginMs?.max],
        ['sessions.running', await sessions.count()],
        ['sessions.ended', sessionsEnded],
        ['sessions.copy', copy.name],
        ['bytes.to_backend', bytes.toBackend],
        ['bytes.to_client', bytes.toClient],
        ['settings.version', settings.current.version],
        ['settings.problem', settings.problem],
      ];
      return { rows };
    },
  }),
};

/**
 * SHOW USERS: the users that a directory created or granted roles, read from the database. It
 * includes those of other processes.
 */
export const showUsers: Rule = {
  begins: 'SHOW USERS',
  help: {
    syntax: 'SHOW USERS',
    does:
      'the users whom the directory created or granted a role: ' +
      'origin, last login through this node, roles that it granted',
  },
  parse: () => ({
    tag: 'SHOW',
    columns: textColumns('user', 'origin', 'last_login', 'roles'),
    requires: { right: 'view', to: 'show users' },
    async run({ services: { directory } }) {
      if (!directory) throw noDirectory();
      return { rows: (await directory.users()).map(userRow) };
    },
  }),
};

/** SHOW VERSION: the versions of pgsso and of Node.js. */
export const showVersion: Rule = {
  begins: 'SHOW VERSION',
  help: { syntax: 'SHOW VERSION', does: 'the versions of pgsso and of Node.js' },
  parse: () => ({
    tag: 'SHOW',
    columns: textColumns('version'),
    requires: { right: 'view', to: 'show the version' },
    run: ({ services }) => ({
      rows: [[`pgsso ${services.version}, Node.js ${process.versions.node}`]],
    }),
  }),
};

function userRow({ user, origin, lastLogin, roles }: DirectoryUser): readonly Cell[] {
  return [
    user,
    origin,
    lastLogin === undefined ? undefined : new Date(lastLogin).toISOString(),
    roles.join(', '),
  ];
}

function noDirectory(): PgError {
  return new PgError({
    code: 'no_directory',
    message: 'there is no directory of users and roles',
    hint:
      'Start pgsso with --directory: ' +
      'a connection to the backend that may create users and grant roles.',
  });
}

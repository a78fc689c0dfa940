/**
 * SHOW ISSUERS: whose tokens are taken, and what is known of their keys. What an operator ought to
 * look at comes as WARNINGs.
 */
import type { DirectoryUser } from '../../directory/directory.ts';
import { PgError } from '../../lib/errors.ts';
import { settingWarnings } from '../../settings/warnings.ts';
import type { Rule } from '../language/reader.ts';
import { type Cell, type Column, textColumns } from '../results.ts';

const columns: readonly Column[] = [
  { name: 'issuer', type: 'text' },
  { name: 'source', type: 'text' },
  { name: 'keys', type: 'int8' },
  { name: 'key_ids', type: 'text' },
  { name: 'fetched_at', type: 'text' },
  { name: 'age_seconds', type: 'int8' },
  { name: 'last_error', type: 'text' },
];

export const showIssuers: Rule = {
  begins: 'SHOW ISSUERS',
  help: {
    syntax: 'SHOW ISSUERS',
    does: 'the issuers, the source, number, ids and age of their keys, why keys could not be had; doubtful settings as warnings',
  },
  parse: () => ({
    tag: 'SHOW',
    columns,
    requires: { right: 'view', to: 'show issuers' },
    run({ services: { keys, settings, now } }) {
      const { values } = settings.current;
      const { problem } = settings;
      return {
        rows: keys
          .describe(values)
          .map(({ issuer, source, keyIds, fetchedAt, lastError }) => [
            issuer,
            source,
            keyIds.length,
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

/* SHOW STATS: the figures of this process since it started, a row each. */

export const showStats: Rule = {
  begins: 'SHOW STATS',
  help: {
    syntax: 'SHOW STATS',
    does: 'logins accepted and refused by reason, sessions, bytes and times of this process',
  },
  parse: () => ({
    tag: 'SHOW',
    columns: textColumns('name', 'value'),
    requires: { right: 'view', to: 'show statistics' },
    run({ services: { statistics, sessions, settings, now } }) {
      const { accepted, refused, ended, bytesToBackend, bytesToClient, loginMs, startedAt } =
        statistics.read();
      const running = sessions.list();
      const toBackend = running.reduce(
        (sum, { traffic }) => sum + traffic.toBackend,
        bytesToBackend,
      );
      const toClient = running.reduce((sum, { traffic }) => sum + traffic.toClient, bytesToClient);
      const logins = accepted.token + accepted.native;
      const rows: Cell[][] = [
        ['started', new Date(startedAt).toISOString()],
        ['uptime_seconds', Math.round((now() - startedAt) / 1000)],
        ['logins_accepted.token', accepted.token],
        ['logins_accepted.native', accepted.native],
        ...[...refused]
          .sort(([left], [right]) => (left < right ? -1 : 1))
          .map(([code, count]) => [`logins_refused.${code}`, count]),
        [
          'login_ms.mean',
          logins === 0 ? undefined : Math.round((loginMs.total / logins) * 10) / 10,
        ],
        ['login_ms.max', logins === 0 ? undefined : loginMs.max],
        ['sessions.running', running.length],
        ['sessions.ended', ended],
        ['bytes.to_backend', toBackend],
        ['bytes.to_client', toClient],
        ['settings.version', settings.current.version],
        ['settings.problem', settings.problem],
      ];
      return { rows };
    },
  }),
};

/*
 * SHOW USERS: whom the directory has created or granted a role, in the database and not in this
 * process alone.
 */

export const showUsers: Rule = {
  begins: 'SHOW USERS',
  help: {
    syntax: 'SHOW USERS',
    does: 'the users whom the directory created or granted a role: origin, last login through this process, roles that it granted',
  },
  parse: () => ({
    tag: 'SHOW',
    columns: textColumns('user', 'origin', 'last_login', 'roles'),
    requires: { right: 'view', to: 'show users' },
    async run({ services: { directory } }) {
      if (!directory) throw noDirectory();
      return { rows: (await directory.users()).map(rowOf) };
    },
  }),
};

function rowOf({ user, origin, lastLogin, roles }: DirectoryUser): readonly Cell[] {
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
    hint: 'Start pgsso with --directory: a connection to the backend that may create users and grant roles.',
  });
}

/* SHOW VERSION: what runs here. */

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

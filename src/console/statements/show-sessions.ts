/** SHOW SESSIONS: who is connected through this process. */
import type { Column } from '../results.ts';
import type { Rule } from '../statement.ts';

const columns: readonly Column[] = [
  { name: 'id', type: 'int8' },
  { name: 'user', type: 'text' },
  { name: 'database', type: 'text' },
  { name: 'principal', type: 'text' },
  { name: 'issuer', type: 'text' },
  { name: 'client_address', type: 'text' },
  { name: 'tls', type: 'text' },
  { name: 'application_name', type: 'text' },
  { name: 'started', type: 'text' },
  { name: 'token_expiry', type: 'text' },
  { name: 'bytes_to_backend', type: 'int8' },
  { name: 'bytes_to_client', type: 'int8' },
  { name: 'backend', type: 'text' },
];

export const showSessions: Rule = {
  begins: 'SHOW SESSIONS',
  help: { syntax: 'SHOW SESSIONS', does: 'the sessions that run through this process' },
  parse: () => ({
    tag: 'SHOW',
    columns,
    requires: { right: 'view', to: 'show sessions' },
    run: ({ parts }) => ({
      rows: parts.sessions
        .list()
        .map(({ login, startedAt, traffic }) => [
          login.session,
          login.user,
          login.database,
          login.principal,
          login.issuer,
          login.client,
          login.transport === 'plain' ? undefined : login.transport,
          login.applicationName,
          new Date(startedAt).toISOString(),
          login.tokenExpires,
          traffic.toBackend,
          traffic.toClient,
          login.backend,
        ]),
    }),
  }),
};

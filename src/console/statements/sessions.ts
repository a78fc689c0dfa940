/** SHOW SESSIONS and CANCEL SESSION: the sessions that run through this node. */
import { PgError } from '../../lib/errors.ts';
import { quote } from '../../settings/values.ts';
import { type Rule, textOf } from '../language/reader.ts';
import type { Column } from '../results.ts';

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

/** SHOW SESSIONS: a row for each session. */
export const showSessions: Rule = {
  begins: 'SHOW SESSIONS',
  help: { syntax: 'SHOW SESSIONS', does: 'the sessions that run through this node' },
  parse: () => ({
    tag: 'SHOW',
    columns,
    requires: { right: 'view', to: 'show sessions' },
    async run({ services }) {
      const { sessions, problems } = await services.sessions.list();
      const rows = sessions.map(({ login, startedAt, traffic }) => [
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
      ]);
      return { rows, warnings: problems };
    },
  }),
};

/**
 * CANCEL SESSION id: cancels the query of the session, so that it changes nothing any more, and
 * closes the connections to the client and to the backend. The client gets no
 * error message, because it could land in the middle of a message of the backend.
 */
export const cancelSession: Rule = {
  begins: 'CANCEL SESSION',
  help: {
    syntax: 'CANCEL SESSION id',
    does: 'ends a session of SHOW SESSIONS: cancels its query and closes its connections',
  },
  parse(reader) {
    const value = reader.value();
    return {
      tag: 'CANCEL SESSION',
      columns: [],
      requires: { right: 'modify', to: 'cancel a session' },
      async run({ services, operator }, parameters) {
        const text = textOf(value, parameters);
        const id = /^\d{1,15}$/.test(text) ? Number(text) : undefined;
        if (id === undefined) throw notAnId(text);
        if (!(await services.sessions.cancel(id))) throw noSuchSession(id);
        services.log.info(
          { event: 'session_cancel', user: operator.name, client: operator.client, session: id },
          'session cancelled',
        );
        return {};
      },
    };
  },
};

function notAnId(text: string): PgError {
  return new PgError({
    code: 'invalid_session_id',
    message: `${quote(text)} is no id of a session`,
    hint: 'SHOW SESSIONS lists the ids.',
  });
}

function noSuchSession(id: number): PgError {
  return new PgError({
    code: 'unknown_session',
    message: `there is no session ${id}`,
    hint: 'SHOW SESSIONS lists the sessions of this node; it may have ended.',
  });
}

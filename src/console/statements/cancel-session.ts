/** CANCEL SESSION id: ends a session. Both legs are closed; a word to the client could land inside a message. */
import { PgError } from '../../errors.ts';
import { quote } from '../../settings/values.ts';
import { type Rule, textOf } from '../statement.ts';

export const cancelSession: Rule = {
  begins: 'CANCEL SESSION',
  help: { syntax: 'CANCEL SESSION id', does: 'ends a session of SHOW SESSIONS by closing its connections' },
  parse(reader) {
    const value = reader.value();
    return {
      tag: 'CANCEL SESSION',
      columns: [],
      requires: { right: 'modify', to: 'cancel a session' },
      run({ parts, operator }, parameters) {
        const text = textOf(value, parameters);
        const id = /^\d{1,15}$/.test(text) ? Number(text) : undefined;
        if (id === undefined) throw notAnId(text);
        if (!parts.sessions.cancel(id)) throw noSuchSession(id);
        parts.log.info(
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
    sqlstate: '22023',
    message: `${quote(text)} is no id of a session`,
    hint: 'SHOW SESSIONS lists the ids.',
  });
}

function noSuchSession(id: number): PgError {
  return new PgError({
    code: 'unknown_session',
    sqlstate: '42704',
    message: `there is no session ${id}`,
    hint: 'SHOW SESSIONS lists the sessions of this process; it may have ended.',
  });
}

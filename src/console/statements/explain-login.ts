/**
 * EXPLAIN LOGIN: what each check of a login would say to a token, and which setting decides it.
 * Nothing is decided, no token is logged.
 */
import { explainLogin as explain } from '../../auth/explain.ts';
import { CONSOLE_DATABASE } from '../../session/console-access.ts';
import { type Rule, textOf, type Value } from '../language/reader.ts';
import { textColumns } from '../results.ts';

/** How long keys may take to come, in ms; their source has its own limit for a request. */
const TIMEOUT = 60_000;

export const explainLogin: Rule = {
  begins: 'EXPLAIN LOGIN',
  help: {
    syntax: "EXPLAIN LOGIN 'token' [FOR USER name] [DATABASE name]",
    does: 'a row for each check of a login with this token: the result, what was found, what was expected, what decides it',
  },
  parse(reader) {
    const token = reader.value();
    let user: Value | undefined;
    let database: Value | undefined;
    while (!reader.atEnd) {
      if (user === undefined && reader.takeWords('FOR USER')) user = reader.value();
      else if (database === undefined && reader.takeWords('DATABASE')) database = reader.value();
      else throw reader.unexpected();
    }
    return {
      tag: 'EXPLAIN',
      columns: textColumns('check', 'result', 'found', 'expected', 'setting'),
      requires: { right: 'view', to: 'explain a login' },
      async run({ services }, parameters) {
        const request = {
          token: textOf(token, parameters),
          user: user && textOf(user, parameters),
          namesRole: false,
        };
        const { checks, identity } = await explain(
          services.authenticator,
          request,
          services.settings.current.values,
          AbortSignal.timeout(TIMEOUT),
        );
        const rows = checks.map(({ check, result, found, expected, decidedBy }) => [
          check,
          result,
          found,
          expected,
          decidedBy,
        ]);
        if (database !== undefined && textOf(database, parameters) === CONSOLE_DATABASE) {
          const role = identity && services.operators.roleOf(identity.user, 'token');
          const result =
            identity === undefined ? 'not reached' : role === undefined ? 'failed' : 'passed';
          rows.push([
            'console',
            result,
            identity && (role ?? 'neither'),
            'admin or viewer',
            '--admin, --viewer',
          ]);
        }
        return { rows };
      },
    };
  },
};

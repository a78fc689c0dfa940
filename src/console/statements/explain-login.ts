/**
 * EXPLAIN LOGIN: runs the checks of a login on a token and shows the result of each one with the
 * setting that decides it. Nobody is logged in, and the token is not logged.
 */
import { isIP } from 'node:net';
import { explainLogin as explain } from '../../auth/explain.ts';
import { PgError } from '../../lib/errors.ts';
import { CONSOLE_DATABASE } from '../../session/console-access.ts';
import { quote } from '../../settings/values.ts';
import { type Rule, textOf, type Value } from '../language/reader.ts';
import type { Operators } from '../operators.ts';
import { textColumns } from '../results.ts';

/** Time to fetch the issuer's keys. A single request has a shorter limit of its own. */
const TIMEOUT_MS = 60_000;

/** Characters. No user of a database has more than 63 bytes. */
const USER_LIMIT = 1024;

/** EXPLAIN LOGIN. DATABASE pgsso adds the check whether the user is an operator. */
export const explainLogin: Rule = {
  begins: 'EXPLAIN LOGIN',
  help: {
    syntax:
      "EXPLAIN LOGIN 'token' [FOR USER name] [DATABASE name] [FROM 'address'] [VIA tls | plain]",
    does:
      'a row for each check of a login with this token: ' +
      'the result, what was found, what was expected, what decides it; ' +
      'FROM and VIA also find the rule',
  },
  parse(reader) {
    const token = reader.value();
    let user: Value | undefined;
    let database: Value | undefined;
    let from: Value | undefined;
    let via: Value | undefined;
    while (!reader.atEnd) {
      if (user === undefined && reader.takeWords('FOR USER')) user = reader.value();
      else if (database === undefined && reader.takeWords('DATABASE')) database = reader.value();
      else if (from === undefined && reader.takeWords('FROM')) from = reader.value();
      else if (via === undefined && reader.takeWords('VIA')) via = reader.value();
      else throw reader.unexpected();
    }
    return {
      tag: 'EXPLAIN',
      columns: textColumns('check', 'result', 'found', 'expected', 'setting'),
      requires: { right: 'view', to: 'explain a login' },
      async run({ services }, parameters) {
        const request = {
          token: textOf(token, parameters),
          user: user && checkUser(textOf(user, parameters)),
          namesRole: false,
        };
        const { values } = services.settings.current;
        const client = {
          rules: values['server.host_based_authentication.configuration'],
          query: {
            address: from && checkAddress(textOf(from, parameters)),
            tls: via === undefined || isTls(textOf(via, parameters)),
            database: database && textOf(database, parameters),
            replication: false,
          },
        };
        const { checks, identity } = await explain(
          services.authenticator,
          request,
          values,
          AbortSignal.timeout(TIMEOUT_MS),
          from === undefined && via === undefined ? undefined : client,
        );
        const rows = checks.map(({ check, result, found, expected, decidedBy }) => [
          check,
          result,
          found,
          expected,
          decidedBy,
        ]);
        if (database !== undefined && textOf(database, parameters) === CONSOLE_DATABASE)
          rows.push(consoleCheck(services.operators, identity?.user));
        return { rows };
      },
    };
  },
};

function checkAddress(address: string): string {
  if (isIP(address) !== 0) return address;
  throw new PgError({
    code: 'invalid_client',
    message: `${quote(address)} is no address: FROM is one such as 10.1.2.3 or 2001:db8::1`,
  });
}

function isTls(via: string): boolean {
  if (via === 'tls') return true;
  if (via === 'plain') return false;
  throw new PgError({
    code: 'invalid_client',
    message: `${quote(via)} is no way to connect: VIA is tls or plain`,
  });
}

/** Folding a name takes time that grows with its length, so a long one is refused before. */
function checkUser(user: string): string {
  if (user.length <= USER_LIMIT) return user;
  throw new PgError({
    code: 'value_too_long',
    message: `the user is longer than ${USER_LIMIT} characters`,
  });
}

/** @param user undefined if a check before has failed */
function consoleCheck(operators: Operators, user: string | undefined): (string | undefined)[] {
  const role = user === undefined ? undefined : operators.roleOf(user, 'token');
  const result = user === undefined ? 'not reached' : role === undefined ? 'failed' : 'passed';
  const found = user === undefined ? undefined : (role ?? 'neither');
  return ['console', result, found, 'admin or viewer', '--admin, --viewer'];
}

/**
 * CREATE API KEY, SHOW API KEYS and DROP API KEY. A token can carry an API key in a claim; the key
 * then decides the SQL user of the login.
 */
import { PgError } from '../../lib/errors.ts';
import { foldName, isUsableName } from '../../lib/text.ts';
import { digestOf, newSecret } from '../../settings/api-keys.ts';
import { quote } from '../../settings/values.ts';
import { type Rule, textOf } from '../language/reader.ts';
import { textColumns } from '../results.ts';

/** ISO 8601: a date, which means its first moment in UTC, or a time with an offset. */
const TIME =
  /^(\d{4}-\d{2}-\d{2})(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?(?:Z|[+-]\d{2}:\d{2}))?$/i;

const createApiKey: Rule = {
  begins: 'CREATE API KEY',
  help: {
    syntax: "CREATE API KEY name FOR USER user [EXPIRES 'time']",
    does:
      'makes a key for a user and shows it, this once; ' +
      'time as 2027-01-31 or 2027-01-31T12:00:00Z',
  },
  parse(reader) {
    const name = reader.value();
    if (!reader.takeWords('FOR USER')) throw reader.unexpected();
    const user = reader.value();
    const expires = reader.takeWords('EXPIRES') ? reader.value() : undefined;
    return {
      tag: 'CREATE API KEY',
      columns: textColumns('name', 'user', 'expires_at', 'api_key'),
      requires: { right: 'modify', to: 'create an API key' },
      async run(session, parameters) {
        const { settings, now } = session.services;
        const key = {
          name: checkName(textOf(name, parameters)),
          user: checkUser(textOf(user, parameters)),
          expiresAt: expires && readTime(textOf(expires, parameters), now()),
        };
        const secret = newSecret();
        await session.changeApiKeys({ kind: 'create', ...key, digest: digestOf(secret) });
        const isRead = settings.current.values['server.jwt_authentication.api_key_claim'] !== '';
        return {
          rows: [[key.name, key.user, isoOf(key.expiresAt), secret]],
          warnings: isRead
            ? []
            : ['server.jwt_authentication.api_key_claim is empty: no token can bring an API key'],
        };
      },
    };
  },
};

const showApiKeys: Rule = {
  begins: 'SHOW API KEYS',
  help: {
    syntax: 'SHOW API KEYS',
    does: 'the API keys, without their secrets; last use as this process knows it since its start',
  },
  parse: () => ({
    tag: 'SHOW',
    columns: textColumns('name', 'user', 'created_at', 'created_by', 'expires_at', 'last_used_at'),
    requires: { right: 'view', to: 'show API keys' },
    run({ services: { settings, apiKeyUses } }) {
      const keys = [...settings.current.values.apiKeys.values()].toSorted((one, other) =>
        one.name < other.name ? -1 : 1,
      );
      return {
        rows: keys.map((key) => [
          key.name,
          key.user,
          isoOf(key.createdAt),
          key.createdBy,
          isoOf(key.expiresAt),
          isoOf(apiKeyUses.lastUse(key)),
        ]),
      };
    },
  }),
};

const dropApiKey: Rule = {
  begins: 'DROP API KEY',
  help: {
    syntax: 'DROP API KEY name',
    does: 'ends a key: the next login with it falls back to the claim of the principal',
  },
  parse(reader) {
    const name = reader.value();
    return {
      tag: 'DROP API KEY',
      columns: [],
      requires: { right: 'modify', to: 'drop an API key' },
      async run(session, parameters) {
        await session.changeApiKeys({ kind: 'drop', name: textOf(name, parameters) });
        return {};
      },
    };
  },
};

/** The statements about API keys. */
export const apiKeyRules: readonly Rule[] = [createApiKey, showApiKeys, dropApiKey];

function checkName(name: string): string {
  if (isUsableName(name)) return name;
  throw invalid(
    `${quote(name)} cannot be the name of an API key: 1 to 63 bytes, all of them visible`,
  );
}

/** Returns the name folded, as the user of a token login is. */
function checkUser(user: string): string {
  const folded = foldName(user);
  if (isUsableName(folded)) return folded;
  throw invalid(`${quote(user)} cannot be a SQL user: 1 to 63 bytes, all of them visible`);
}

function readTime(text: string, now: number): number {
  const day = TIME.exec(text)?.[1];
  const time = day === undefined ? Number.NaN : Date.parse(text.replace(' ', 'T'));
  // Date.parse turns February 30 into a day of March, so the date is compared with its result.
  if (day === undefined || Number.isNaN(time) || isoOf(Date.parse(day))?.slice(0, 10) !== day) {
    throw invalid(
      `could not parse ${quote(text)} as a time: ` +
        'expected one such as 2027-01-31 or 2027-01-31T12:00:00Z',
    );
  }
  if (time <= now) throw invalid(`an API key that expires at ${isoOf(time)} would be of no use`);
  return time;
}

function isoOf(time: number | undefined): string | undefined {
  return time === undefined ? undefined : new Date(time).toISOString();
}

function invalid(message: string): PgError {
  return new PgError({ code: 'invalid_api_key', message });
}

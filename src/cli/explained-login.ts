/**
 * The work of `pgsso explain`: the checks of a login, made with the settings of a data directory or
 * of the command line, and their results as text or as JSON.
 */
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { Authenticator } from '../auth/authenticator.ts';
import {
  type ExplainedCheck,
  type ExplainedClient,
  type Explanation,
  explainLogin,
} from '../auth/explain.ts';
import { VerifiedTokens } from '../auth/verified-tokens.ts';
import { noKeyStore } from '../keys/key-files.ts';
import { noEvents } from '../keys/key-source.ts';
import { errorText } from '../lib/errors.ts';
import { openProviders } from '../server/providers.ts';
import { noApiKeys } from '../settings/api-keys.ts';
import { RULES_SETTING } from '../settings/auth-rule-syntax.ts';
import { readProcessDefaults } from '../settings/process-defaults.ts';
import { buildSnapshot, type StoredState } from '../settings/snapshot.ts';
import { readStoredState } from '../settings/store/last-snapshot.ts';

/** The options of the command. */
export interface ExplainOptions {
  readonly user?: string;
  readonly dataDir?: string;
  readonly set?: readonly string[];
  readonly reservedUser?: readonly string[];
  readonly superusers: 'refuse' | 'allow';
  readonly from?: string;
  readonly via?: 'tls' | 'plain';
  readonly database?: string;
  readonly json?: true;
}

const EXIT_REFUSED = 1;

/** Explains the login of a token on standard input. The exit status says whether it succeeds. */
export async function explain(options: ExplainOptions): Promise<void> {
  const processDefaults = readProcessDefaults(options.set ?? [], process.env);
  const stored = await readStored(options.dataDir);
  const { values } = buildSnapshot({ ...stored, processDefaults, previous: undefined });
  const providers = openProviders({ environment: process.env, maxLogins: 1 }, noKeyStore, noEvents);
  const { keys, exchange, userinfo, events } = providers;
  const authenticator = new Authenticator({
    keys,
    verified: new VerifiedTokens(Date.now),
    exchange,
    userinfo,
    events,
    now: Date.now,
    reservedUsers: options.reservedUser ?? [],
    superusers: options.superusers,
  });
  const token = (await text(process.stdin)).trim();
  const login = { token, user: options.user, namesRole: false };
  const { signal } = new AbortController();
  const query = queryOf(options);
  const client = query && { rules: values[RULES_SETTING], query };
  const explanation = await explainLogin(authenticator, login, values, signal, client);
  await providers.close();
  process.stdout.write(
    options.json ? `${JSON.stringify(toJson(explanation), undefined, 2)}\n` : toText(explanation),
  );
  if (!explanation.identity) process.exitCode = EXIT_REFUSED;
}

/** From where and how the login is made. Undefined: no rule is looked for. */
function queryOf({ from, via, database }: ExplainOptions): ExplainedClient['query'] | undefined {
  if (from === undefined && via === undefined) return undefined;
  return { address: from, tls: via !== 'plain', database, replication: false };
}

async function readStored(dataDir: string | undefined): Promise<StoredState> {
  if (dataDir === undefined) return { stored: new Map(), apiKeys: noApiKeys };
  try {
    return await readStoredState(resolve(dataDir));
  } catch (error) {
    throw new Error(`--data-dir: ${errorText(error)}`, { cause: error });
  }
}

function toJson({ checks, identity, refusal }: Explanation): object {
  return {
    admitted: identity !== undefined,
    ...(identity && {
      user: identity.user,
      principal: identity.principal,
      issuer: identity.issuer,
      tokenExpires: new Date(identity.expiresAt).toISOString(),
    }),
    ...(refusal && {
      code: refusal.code,
      sqlstate: refusal.sqlstate,
      message: refusal.message,
      detail: refusal.detail,
    }),
    checks,
  };
}

function toText({ checks, identity, refusal }: Explanation): string {
  const detail = refusal?.detail === undefined ? '' : ` (${refusal.detail})`;
  const verdict = identity
    ? `The checks let the login in, as ${identity.user}.`
    : `The login is refused: ${refusal?.message}${detail}.`;
  return `${[...checks.map(checkLine), '', verdict].join('\n')}\n`;
}

function checkLine({ check, result, found, expected, decidedBy }: ExplainedCheck): string {
  const begin = `${result.padEnd(11)}  ${check.padEnd(9)}`;
  if (result === 'not reached') return begin.trimEnd();
  if (result === 'passed') return `${begin}  ${found}`;
  const because = decidedBy === undefined ? '' : `; decided by ${decidedBy}`;
  return `${begin}  found ${found}; expected ${expected}${because}`;
}

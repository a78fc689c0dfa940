/**
 * The work of `pgsso explain`: the checks of a login, made with the settings of a data directory or
 * of the command line, or made by a running pgsso with its own, and their results as text or as
 * JSON.
 */
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { Authenticator } from '../auth/authenticator.ts';
import { type ExplainedCheck, type ExplainedClient, explainLogin } from '../auth/explain.ts';
import type { Identity } from '../auth/identity.ts';
import { VerifiedTokens } from '../auth/verified-tokens.ts';
import { noKeyStore } from '../keys/key-files.ts';
import { noEvents } from '../keys/key-source.ts';
import { errorText, type PgError } from '../lib/errors.ts';
import { isErrno } from '../lib/files.ts';
import { openProviders } from '../server/providers.ts';
import { noApiKeys } from '../settings/api-keys.ts';
import { RULES_SETTING } from '../settings/auth-rule-syntax.ts';
import { readProcessDefaults } from '../settings/process-defaults.ts';
import { buildSnapshot, type StoredState } from '../settings/snapshot.ts';
import { readStoredState } from '../settings/store/last-snapshot.ts';
import { withConsole } from './console-client.ts';

/** The options of the command. */
export interface ExplainOptions {
  readonly user?: string;
  readonly dataDir?: string;
  readonly running?: true;
  readonly port?: number;
  readonly url?: string;
  readonly set?: readonly string[];
  readonly reservedUser?: readonly string[];
  readonly superusers: 'refuse' | 'allow';
  readonly from?: string;
  readonly via?: 'tls' | 'plain';
  readonly database?: string;
  readonly json?: true;
}

/** A check. The console adds one of its own. */
type ShownCheck = Omit<ExplainedCheck, 'check'> & { readonly check: string };

/** What is printed. */
interface Shown {
  /** Whose settings were used. */
  readonly settings: string;
  readonly admitted: boolean;
  readonly checks: readonly ShownCheck[];
  /** Undefined if a check failed, or if a running pgsso was asked, which tells only the checks. */
  readonly identity?: Identity | undefined;
  readonly refusal?: PgError | undefined;
}

const EXIT_REFUSED = 1;

/** Explains the login of a token on standard input. The exit status says whether it succeeds. */
export async function explain(options: ExplainOptions): Promise<void> {
  const isAsked = options.url !== undefined || options.running;
  const shown = isAsked ? await askServer(options) : await explainHere(options);
  process.stdout.write(
    options.json ? `${JSON.stringify(toJson(shown), undefined, 2)}\n` : toText(shown),
  );
  if (!shown.admitted) process.exitCode = EXIT_REFUSED;
}

async function explainHere(options: ExplainOptions): Promise<Shown> {
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
  const login = { token: await readToken(), user: options.user, namesRole: false };
  const { signal } = new AbortController();
  const query = queryOf(options);
  const client = query && { rules: values[RULES_SETTING], query };
  const { checks, identity, refusal } = await explainLogin(
    authenticator,
    login,
    values,
    signal,
    client,
  );
  await providers.close();
  const settings = settingsRead(options, stored, processDefaults.size);
  return { settings, admitted: identity !== undefined, checks, identity, refusal };
}

function settingsRead(
  { dataDir }: ExplainOptions,
  { stored }: StoredState,
  processDefaults: number,
): string {
  const sources = [
    ...(dataDir === undefined ? [] : [`${stored.size} of ${resolve(dataDir)}`]),
    `${processDefaults} of --set and PGSSO_SET_…`,
  ];
  return `${sources.join(', ')}, else defaults; a running pgsso may have others (--running, --url)`;
}

/** A row of EXPLAIN LOGIN. */
interface ExplainRow {
  readonly check: string;
  readonly result: ExplainedCheck['result'];
  readonly found: string | null;
  readonly expected: string;
  readonly setting: string | null;
}

async function askServer({ url, dataDir, port, ...options }: ExplainOptions): Promise<Shown> {
  const { user, database, from, via } = options;
  const parameters = [await readToken()];
  const clauses = Object.entries({ 'FOR USER': user, DATABASE: database, FROM: from, VIA: via })
    .filter(([, value]) => value !== undefined)
    .map(([words, value = '']) => `${words} $${parameters.push(value)}`);
  // The URL comes from the command line: there is no variable for it.
  const address = { url, source: 'flag', dataDir: dataDir ?? './pgsso-data', port } as const;
  const rows = await withConsole(
    address,
    async (client) =>
      (await client.query<ExplainRow>(`EXPLAIN LOGIN $1 ${clauses.join(' ')}`, parameters)).rows,
  );
  const checks = rows.map(({ setting, found, ...row }) => ({
    ...row,
    found: found ?? undefined,
    decidedBy: setting ?? undefined,
  }));
  const place = url === undefined ? resolve(address.dataDir) : new URL(url).host;
  return {
    settings: `those of the pgsso that runs at ${place}`,
    admitted: checks.every(({ result }) => result !== 'failed'),
    checks,
  };
}

async function readToken(): Promise<string> {
  return (await text(process.stdin)).trim();
}

/** From where and how the login is made. Undefined: no rule is looked for. */
function queryOf({ from, via, database }: ExplainOptions): ExplainedClient['query'] | undefined {
  if (from === undefined && via === undefined) return undefined;
  return { address: from, tls: via !== 'plain', database, replication: false };
}

async function readStored(dataDir: string | undefined): Promise<StoredState> {
  if (dataDir === undefined) return { stored: new Map(), apiKeys: noApiKeys };
  const directory = resolve(dataDir);
  try {
    return await readStoredState(directory);
  } catch (error) {
    const why = isErrno(error, 'ENOENT') ? 'there is no such directory' : errorText(error);
    throw new Error(`--data-dir ${directory}: ${why}`, { cause: error });
  }
}

function toJson({ settings, admitted, checks, identity, refusal }: Shown): object {
  return {
    settings,
    admitted,
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

function toText(shown: Shown): string {
  const lines = [`Settings: ${shown.settings}`, '', ...shown.checks.map(checkLine)];
  return `${[...lines, '', verdictOf(shown)].join('\n')}\n`;
}

function verdictOf({ admitted, identity, refusal }: Shown): string {
  if (admitted) return `The checks let the login in${identity ? `, as ${identity.user}` : ''}.`;
  if (!refusal) return 'The login is refused.';
  const detail = refusal.detail === undefined ? '' : ` (${refusal.detail})`;
  return `The login is refused: ${refusal.message}${detail}.`;
}

function checkLine({ check, result, found, expected, decidedBy }: ShownCheck): string {
  const begin = `${result.padEnd(11)}  ${check.padEnd(9)}`;
  if (result === 'not reached') return begin.trimEnd();
  if (result === 'passed') return `${begin}  ${found}`;
  const because = decidedBy === undefined ? '' : `; decided by ${decidedBy}`;
  return `${begin}  found ${found}; expected ${expected}${because}`;
}

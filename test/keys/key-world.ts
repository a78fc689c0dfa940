/** All code that fetches keys, with a clock that the test sets, and logins that use it. */
import type { Authenticator } from '../../src/auth/authenticator.ts';
import { Userinfo } from '../../src/auth/userinfo.ts';
import { VerifiedTokens } from '../../src/auth/verified-tokens.ts';
import { type FetchJson, JsonClient } from '../../src/http/json-client.ts';
import { Discovery } from '../../src/keys/discovery.ts';
import { FetchedKeys } from '../../src/keys/fetched-keys.ts';
import type { KeyStore, StoredKeys } from '../../src/keys/key-files.ts';
import { type KeyEvents, keysBySetting } from '../../src/keys/key-source.ts';
import { PgError } from '../../src/lib/errors.ts';
import { ClientCredentials } from '../../src/oauth/client-credentials.ts';
import type { SettingName } from '../../src/settings/definitions.ts';
import { buildSnapshot, type SettingValues } from '../../src/settings/snapshot.ts';
import { authenticatorOf, NOW, SECONDS } from '../auth/login.ts';
import { type Members, mintToken, type TestKey } from '../support/tokens.ts';

/** An event with its arguments. */
export type Happened = readonly [keyof KeyEvents, ...unknown[]];

/** Settings that let tokens of the issuer in, with keys that are fetched. */
export function valuesFor(
  issuer: string,
  change: Partial<Record<SettingName, string>> = {},
): SettingValues {
  const texts: Partial<Record<SettingName, string>> = {
    'server.jwt_authentication.enabled': 'true',
    'server.jwt_authentication.issuers.configuration': issuer,
    'server.jwt_authentication.audience': 'pgsso',
    'server.jwt_authentication.jwks_auto_fetch.enabled': 'true',
    // Tests with many logins take longer than the default of 15 s on a loaded machine.
    'server.jwt_authentication.client.timeout': '10m',
    ...change,
  };
  const processDefaults = new Map(Object.entries(texts) as [SettingName, string][]);
  return buildSnapshot({ stored: new Map(), processDefaults, previous: undefined }).values;
}

/** A store in memory, which several worlds may use one after the other. */
export function memoryStore(): KeyStore {
  const stored = new Map<string, StoredKeys>();
  return {
    read: async (issuer, origin) =>
      stored.get(issuer)?.origin === origin ? stored.get(issuer) : undefined,
    write: async (keys) => void stored.set(keys.issuer, keys),
  };
}

/** The login services of one process. */
export class KeyWorld {
  /** The monotonic clock. The clock of the system shows this time and its error. */
  now = NOW;
  /** How far the clock of the system is ahead, in milliseconds. */
  clockError = 0;
  values: SettingValues;
  readonly happened: Happened[] = [];
  readonly #waiting = new Set<() => void>();
  readonly discovery: Discovery;
  readonly fetched: FetchedKeys;
  readonly verified = new VerifiedTokens(() => this.now + this.clockError);
  readonly authenticator: Authenticator;
  readonly #client: JsonClient;

  constructor(
    values: SettingValues,
    {
      store = memoryStore(),
      environment = {},
      fetchJson,
    }: { store?: KeyStore; environment?: Record<string, string>; fetchJson?: FetchJson } = {},
  ) {
    this.values = values;
    const now = (): number => this.now + this.clockError;
    const clocks = { now, monotonic: () => this.now };
    this.#client = new JsonClient(environment);
    const fetch = fetchJson ?? this.#client.fetchJson;
    this.discovery = new Discovery(fetch, clocks);
    const { discovery } = this;
    const tell =
      (name: keyof KeyEvents) =>
      (...details: unknown[]): void => {
        this.happened.push([name, ...details]);
        for (const look of this.#waiting) look();
      };
    const events: KeyEvents = {
      fetched: tell('fetched'),
      fetchFailed: tell('fetchFailed'),
      keysChanged: tell('keysChanged'),
      refetchRefused: tell('refetchRefused'),
      notStored: tell('notStored'),
      verified: tell('verified'),
    };
    this.fetched = new FetchedKeys({
      fetchJson: fetch,
      discovery,
      store,
      events,
      ...clocks,
      random: () => 0.5,
      waitingLimit: 250,
      waitingShare: 125,
    });
    const { exchange } = new ClientCredentials(fetch, discovery, { waitingLimit: 250 });
    const userinfo = new Userinfo(fetch, discovery, { waitingLimit: 250, waitingShare: 125 });
    const { fetched: source, verified } = this;
    this.authenticator = authenticatorOf({
      keys: keysBySetting(source),
      now,
      exchange,
      userinfo: userinfo.lookup,
      verified,
      events,
    });
  }

  /** The details of each event of that name. */
  details(name: keyof KeyEvents): unknown[] {
    return this.happened
      .filter(([other]) => other === name)
      .map(([, ...details]) => details.at(-1));
  }

  /** Resolves when that many fetches have ended, whether they succeeded or not. */
  async fetches(count: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (this.details('fetched').length + this.details('fetchFailed').length < count) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
      look();
    });
    // The next fetch can begin one turn of the event loop later.
    await new Promise(setImmediate);
  }

  /** A token of the first issuer, valid for a day. */
  token(key: TestKey, claims: Members = {}, header: Members = {}): string {
    const [iss] = this.values['server.jwt_authentication.issuers.configuration'].issuers;
    const iat = SECONDS - 10;
    return mintToken(
      key,
      { iss, sub: 'alice', aud: 'pgsso', iat, exp: iat + 86_400, ...claims },
      header,
    );
  }

  /** Logs in. Resolves to the user, or to the code of the refusal. */
  async login(
    token: string,
    user: string | undefined = 'alice',
    signal = new AbortController().signal,
    address?: string,
  ): Promise<string> {
    try {
      const request = { token, user, namesRole: false, address };
      return (await this.authenticator.authenticate(request, this.values, signal)).user;
    } catch (error) {
      if (error instanceof PgError) return error.code;
      throw error;
    }
  }

  /** The refusal of a login that must fail. */
  async refusal(token: string, user = 'alice'): Promise<PgError> {
    const { signal } = new AbortController();
    const outcome = this.authenticator.authenticate(
      { token, user, namesRole: false },
      this.values,
      signal,
    );
    return outcome.then(
      () => Promise.reject(new Error('the login was let in')),
      (error: PgError) => error,
    );
  }

  /** Sets the clock forward and starts the fetches that are then due, as a process's timer does. */
  advance(milliseconds: number): void {
    this.now += milliseconds;
    this.fetched.renew(this.values);
  }

  async close(): Promise<void> {
    this.fetched.close();
    await this.#client.close();
  }
}

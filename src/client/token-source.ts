/**
 * Where a client's token comes from, in this order: the environment, a stored token that is good
 * for a while, the refresh token, the client's secret, a login. Processes that need a new token at
 * the same time take turns, so that one of them gets it and the others find it stored.
 */
import { errorText } from '../lib/errors.ts';
import { Mutex } from '../lib/keyed-mutex.ts';
import {
  type GrantedTokens,
  GrantRefused,
  grantClientCredentials,
  grantRefresh,
  type Issuer,
  type LibraryFetch,
  type OAuthClient,
  openIssuer,
} from '../oauth/issuer.ts';
import { type ClientToken, givenToken, isFromCommand } from './given-token.ts';
import type { UseToken } from './profile.ts';
import { type StoredToken, type StoredTokens, storedTokens, TokenStore } from './token-store.ts';

/** What a {@link TokenSource} is made with. */
export interface TokenSourceOptions {
  readonly environment: NodeJS.ProcessEnv;
  /** Undefined if no issuer and no client id are known. */
  readonly client: OAuthClient | undefined;
  readonly useToken: UseToken;
  /** The folder of the stored tokens. */
  readonly state: string;
  readonly fetch: LibraryFetch;
  /** What a person types to log in, for errors. */
  readonly loginCommand: string;
  /** Logs a person in. Undefined where nobody can be asked. */
  readonly logIn?: ((issuer: Issuer, signal: AbortSignal) => Promise<GrantedTokens>) | undefined;
  /** Says what is going on, to somebody who waits. */
  readonly tell: (line: string) => void;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** How long a token has to be good, so that it does not expire on its way. */
const MARGIN_MS = 60_000;

/** After this wait, in ms, the person is told what for. */
const QUIET_MS = 2000;

/** Gives a token for each login. */
export class TokenSource {
  readonly #options: TokenSourceOptions;
  readonly #turns = new Mutex();
  /** The last token of PGSSO_TOKEN_COMMAND. */
  #ofCommand: StoredToken | undefined;

  constructor(options: TokenSourceOptions) {
    this.#options = options;
  }

  /**
   * A token that is good for a minute; if it lives less than two minutes, for half of its life.
   *
   * @throws Error with one line that says what to do; the signal's reason
   */
  async get(signal: AbortSignal): Promise<ClientToken> {
    const { environment, client } = this.#options;
    const given = isFromCommand(environment)
      ? await this.#turns.run(() => this.#fromCommand(signal), signal)
      : await givenToken(environment, signal);
    if (given) return given;
    if (!client) throw new Error(`there is no token: ${this.#options.loginCommand}`);
    const store = await TokenStore.open(this.#options.state, client);
    const stored = this.#good(await store.read());
    if (stored) return this.#result(stored, client);
    return this.#turns.run(() => this.#renew(store, client, signal), signal);
  }

  /** Logs in, whatever is stored. Returns what is stored then. */
  async logIn(signal: AbortSignal): Promise<StoredTokens> {
    const { client, state } = this.#options;
    if (!client) throw new Error(`there is no issuer: ${this.#options.loginCommand}`);
    const store = await TokenStore.open(state, client);
    // Others may refresh what is stored while the person is asked.
    const granted = await this.#grantAnew(await this.#open(client, signal), signal);
    return this.#locked(store, signal, () => this.#keep(store, granted));
  }

  async #fromCommand(signal: AbortSignal): Promise<ClientToken | undefined> {
    const { environment, now } = this.#options;
    const known = this.#ofCommand;
    if (known && isGood(known, now())) return this.#result(known, undefined);
    const given = await givenToken(environment, signal);
    if (given?.expiresAt !== undefined) {
      this.#ofCommand = { token: given.token, expiresAt: given.expiresAt, obtainedAt: now() };
    }
    return given;
  }

  async #renew(store: TokenStore, client: OAuthClient, signal: AbortSignal): Promise<ClientToken> {
    return this.#locked(store, signal, async () => {
      const before = await store.read();
      const found =
        this.#good(before) ?? this.#chosen(await this.#newTokens(store, client, before, signal));
      return this.#result(found, client);
    });
  }

  /** By the refresh token, or else by the client's secret or a login. */
  async #newTokens(
    store: TokenStore,
    client: OAuthClient,
    before: StoredTokens | undefined,
    signal: AbortSignal,
  ): Promise<StoredTokens> {
    try {
      const issuer = await this.#open(client, signal);
      const refreshed = before?.refresh && (await this.#refresh(issuer, before.refresh));
      if (refreshed) return await this.#keep(store, refreshed, before);
      return await this.#keep(store, await this.#grantAnew(issuer, signal));
    } catch (error) {
      signal.throwIfAborted();
      // The issuer may be away for a moment, and the token is still good for another one.
      const last = before && this.#token(before);
      if (last && !(error instanceof GrantRefused) && last.expiresAt > this.#options.now()) {
        this.#options.tell(`${errorText(error)}; the stored token is used as long as it is good`);
        return before;
      }
      throw error;
    }
  }

  /** Undefined if the issuer does not take the refresh token any more. */
  async #refresh(issuer: Issuer, token: string): Promise<GrantedTokens | undefined> {
    try {
      const granted = await grantRefresh(issuer, token);
      // OpenID Connect Core, 12.2: the answer "might not contain an id_token".
      const lacksToken = this.#options.useToken === 'id_token' && granted.idToken === undefined;
      return lacksToken ? undefined : granted;
    } catch (error) {
      if (error instanceof GrantRefused && error.code === 'invalid_grant') return undefined;
      throw error;
    }
  }

  async #grantAnew(issuer: Issuer, signal: AbortSignal): Promise<GrantedTokens> {
    const { logIn, client, loginCommand } = this.#options;
    if (logIn) return logIn(issuer, signal);
    if (client?.clientSecret !== undefined) return grantClientCredentials(issuer);
    throw new Error(`there is no token that is good, and nobody to ask here: ${loginCommand}`);
  }

  async #keep(
    store: TokenStore,
    granted: GrantedTokens,
    before?: StoredTokens,
  ): Promise<StoredTokens> {
    const tokens = storedTokens(granted, this.#options.now(), before);
    this.#chosen(tokens);
    await store.write(tokens);
    return tokens;
  }

  async #locked<T>(store: TokenStore, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const timer = setTimeout(
      () => this.#options.tell('Waiting for another pgsso that gets a token …'),
      QUIET_MS,
    );
    try {
      return await store.lock(signal, () => {
        clearTimeout(timer);
        return work();
      });
    } finally {
      clearTimeout(timer);
    }
  }

  #open(client: OAuthClient, signal: AbortSignal): Promise<Issuer> {
    return openIssuer(client, this.#options.fetch, signal);
  }

  #good(tokens: StoredTokens | undefined): StoredToken | undefined {
    const token = tokens && this.#token(tokens);
    return token && isGood(token, this.#options.now()) ? token : undefined;
  }

  #token({ access, id }: StoredTokens): StoredToken | undefined {
    return this.#options.useToken === 'id_token' ? id : access;
  }

  /** @throws Error if the issuer gave no token that can be a password */
  #chosen(tokens: StoredTokens): StoredToken {
    const { useToken } = this.#options;
    const found = this.#token(tokens);
    if (!found) throw new Error('the issuer gave no ID token: the scope has to have openid in it');
    if (useToken === 'id_token' || found.token.split('.').length === 3) return found;
    throw new Error(
      'the access token of the issuer is not a JSON web token: name the databases with ' +
        '--audience, or use --use-token id_token',
    );
  }

  #result({ token, expiresAt }: StoredToken, client: OAuthClient | undefined): ClientToken {
    return { token, expiresAt, issuer: client?.issuer };
  }
}

function isGood({ obtainedAt, expiresAt }: StoredToken, now: number): boolean {
  const margin = Math.min(MARGIN_MS, (expiresAt - obtainedAt) / 2);
  // A token of the future was stored before the clock was set back.
  return now >= obtainedAt - MARGIN_MS && expiresAt - now > margin;
}

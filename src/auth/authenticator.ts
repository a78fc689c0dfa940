/**
 * The login decision: a token goes in, an Identity comes out, or the refusal that the first failed check asks for. The order of
 * the checks is part of the contract, since it decides what a stranger can learn; it is written once, in `examine`, for logins
 * and for their explanation alike.
 */
import type { KeySet } from '../settings/key-set.ts';
import { type ApiKeyUses, findApiKey, noteKey, type PresentedKey } from './api-keys.ts';
import { CheckFailure, type PassedCheck, refusal } from './checks.ts';
import { readGroups, type UserinfoLookup } from './groups.ts';
import type { Identity, LoginRequest } from './identity.ts';
import type { KeyEvents } from './key-events.ts';
import type { KeySource } from './key-source.ts';
import type { LoginSettings } from './login-settings.ts';
import { foldName } from './names.ts';
import { reserveNames } from './reserved-names.ts';
import { formatList, formatText } from './text.ts';
import { parseToken, type Token } from './token.ts';
import { namesOfClaim, namesOfKey, type TokenNames } from './token-names.ts';
import type { VerifiedTokens } from './verified-tokens.ts';
import { selectKeys, verifyDates, verifySignature } from './verify.ts';

/** What the decision rests on besides the settings, fixed when the process starts. */
export interface AuthenticatorOptions {
  readonly keys: KeySource;
  readonly verified: VerifiedTokens;
  /** Turns what is no token into one; gives any other request back as it is. */
  readonly exchange: (request: LoginRequest, values: LoginSettings, signal: AbortSignal) => Promise<LoginRequest>;
  readonly events: Pick<KeyEvents, 'verified'>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Users that no token may have, beside the built-in ones. */
  readonly reservedUsers: readonly string[];
  /** Whether a token may belong to a superuser of the backend, so that the startup message may name a role. */
  readonly superusers: 'refuse' | 'allow';
  /** Told of each login with an API key; undefined where nobody logs in. */
  readonly apiKeyUses?: ApiKeyUses | undefined;
  /** How to ask an issuer for groups that the token does not name; undefined where that cannot be done. */
  readonly userinfo?: UserinfoLookup | undefined;
}

/** Decides on token logins. Between two of them only {@link VerifiedTokens} knows anything. */
export class Authenticator {
  readonly #keys: KeySource;
  readonly #verified: VerifiedTokens;
  readonly #exchange: AuthenticatorOptions['exchange'];
  readonly #events: AuthenticatorOptions['events'];
  readonly #now: () => number;
  readonly #isReserved: (user: string) => boolean;
  readonly #superusers: 'refuse' | 'allow';
  readonly #apiKeyUses: ApiKeyUses | undefined;
  readonly #userinfo: UserinfoLookup | undefined;

  constructor(options: AuthenticatorOptions) {
    this.#keys = options.keys;
    this.#verified = options.verified;
    this.#exchange = options.exchange;
    this.#events = options.events;
    this.#now = options.now;
    this.#isReserved = reserveNames(options.reservedUsers);
    this.#superusers = options.superusers;
    this.#apiKeyUses = options.apiKeyUses;
    this.#userinfo = options.userinfo;
  }

  /**
   * Who the client is, by settings that were read once for this login.
   * @throws PgError 28000 for the first check that fails, 28P01 for client credentials that are not good; whatever the signal aborts with
   */
  async authenticate(request: LoginRequest, values: LoginSettings, signal: AbortSignal): Promise<Identity> {
    const examination = this.examine(await this.#exchange(request, values, signal), values, signal);
    try {
      for (;;) {
        const step = await examination.next();
        if (step.done) {
          this.#noteUse(step.value, values);
          return step.value;
        }
      }
    } catch (error) {
      throw error instanceof CheckFailure ? refusal(error, values) : error;
    }
  }

  /**
   * The checks in their order: yields each that passes and returns the Identity.
   * @throws CheckFailure at the first that does not; those behind it are not reached
   */
  async *examine(
    request: LoginRequest,
    values: LoginSettings,
    signal: AbortSignal,
  ): AsyncGenerator<PassedCheck, Identity, void> {
    checkEnabled(values);
    yield { check: 'enabled', found: 'true' };

    const token = parseToken(request.token);
    yield { check: 'token', found: `algorithm ${formatText(token.algorithm)}` };

    checkIssuer(token, values);
    yield { check: 'issuer', found: formatText(token.issuer) };

    const keys = await this.#keys.keysFor(token.issuer, values, signal);
    yield { check: 'keys', found: `${keys.length} keys` };

    await this.#checkSignature(token, keys, values, signal);
    verifyDates(token, this.#now(), values['pgsso.clock_tolerance']);
    yield { check: 'signature', found: `a valid signature and exp ${new Date(token.expiresAt).toISOString()}` };

    const claim = values['server.jwt_authentication.api_key_claim'];
    const presented = findApiKey(token, claim, values.apiKeys, this.#now());
    try {
      return yield* this.#examineUser(request, token, presented, values, signal);
    } catch (error) {
      throw noteKey(error, claim, presented);
    }
  }

  /** Checks 6 and following, of a token that is genuine. */
  async *#examineUser(
    request: LoginRequest,
    token: Token & { readonly expiresAt: number },
    presented: PresentedKey,
    values: LoginSettings,
    signal: AbortSignal,
  ): AsyncGenerator<PassedCheck, Identity, void> {
    const key = presented?.key;
    const names = yield* key ? namesOfKey(key, values) : namesOfClaim(token, values);

    const { user, principal } = chooseUser(request, names);
    yield { check: 'user', found: formatText(user) };

    this.#checkReserved(user);
    yield { check: 'reserved', found: formatText(user) };

    checkAudience(token, values);
    yield { check: 'audience', found: formatList(token.audiences) };

    this.#checkRole(request);
    yield { check: 'role', found: request.namesRole ? 'a role in the startup message' : 'none' };

    let groups: readonly string[] | undefined;
    if (values['server.jwt_authentication.authorization.enabled']) {
      groups = await readGroups(token, values, this.#userinfo, signal);
      yield { check: 'groups', found: formatList(groups) };
    }

    return { user, principal, issuer: token.issuer, expiresAt: token.expiresAt, groups, ...(key && { apiKey: key.name }) };
  }

  #noteUse({ apiKey }: Identity, { apiKeys }: LoginSettings): void {
    const key = apiKey === undefined ? undefined : apiKeys.get(apiKey);
    if (key) this.#apiKeyUses?.note(key, this.#now());
  }

  /** Check 5, first half. A key that the set lacks may be newer than the set, which is asked for once more. */
  async #checkSignature(token: Token, keys: KeySet, values: LoginSettings, signal: AbortSignal): Promise<void> {
    const isKnown = selectKeys(token, keys).length > 0;
    const newer = isKnown ? undefined : await this.#keys.refresh(token.issuer, values, signal);
    const current = newer ?? keys;
    const before = this.#verified.has(token.compact, current, values);
    this.#events.verified(before);
    if (before) return;
    verifySignature(token, current);
    const { expiresAt } = token;
    // One that never expires is refused by the check of its dates.
    if (expiresAt !== undefined) this.#verified.add(token.compact, { keys: current, values, expiresAt });
  }

  /** Check 10. */
  #checkReserved(user: string): void {
    if (this.#isReserved(user)) {
      const shown = formatText(user);
      throw new CheckFailure('reserved', {
        found: `the reserved user ${shown}`,
        detail: `cannot use JWT auth to login to a reserved user ${shown}`,
      });
    }
  }

  /** After check 11: behind a role that the startup message sets, `is_superuser` reports `off` for a superuser. */
  #checkRole(request: LoginRequest): void {
    if (request.namesRole && this.#superusers === 'refuse') {
      throw new CheckFailure('role', {
        found: 'role or session_authorization in the startup message',
        detail: 'a login with a token may not name role or session_authorization',
      });
    }
  }
}

/** Check 1. */
function checkEnabled(values: LoginSettings): void {
  if (!values['server.jwt_authentication.enabled']) {
    throw new CheckFailure('enabled', { found: 'false' });
  }
}

/** Check 3: compared exactly. An issuer is an identifier, not a URL to be normalised. */
function checkIssuer(token: Token, values: LoginSettings): void {
  const { issuers } = values['server.jwt_authentication.issuers.configuration'];
  if (token.issuer === '' || !issuers.includes(token.issuer)) {
    const shown = formatText(token.issuer);
    throw new CheckFailure('issuer', { found: `"${shown}"`, detail: `token issued by ${shown}` });
  }
}

/** Check 9: the user that was asked for, or the only one there is. */
function chooseUser(request: LoginRequest, { principals, principalOf }: TokenNames): Pick<Identity, 'user' | 'principal'> {
  const names = [...principalOf.keys()];
  const requested = foldName(request.user ?? '');
  const user = requested === '' && names.length === 1 ? names[0] : requested;
  const principal = user === undefined ? undefined : principalOf.get(user);
  if (user === undefined || principal === undefined) {
    throw new CheckFailure('user', {
      found: `${requested === '' ? 'no user' : `the user ${formatText(requested)}`}, and a token that yields ${formatList(names)}`,
      detail: `token issued for ${formatList(principals)} and login was for ${formatText(requested)}`,
    });
  }
  return { user, principal };
}

/** Check 11. An empty string is no audience, even if both sides have it. */
function checkAudience(token: Token, values: LoginSettings): void {
  const accepted = new Set(values['server.jwt_authentication.audience']);
  if (!token.audiences.some((audience) => audience !== '' && accepted.has(audience))) {
    const shown = formatList(token.audiences);
    throw new CheckFailure('audience', { found: shown, detail: `token issued with an audience of ${shown}` });
  }
}

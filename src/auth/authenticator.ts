/**
 * The login decision. A token goes in. An {@link Identity} comes out, or the refusal that the first
 * failed check asks for. The order of the checks is part of the contract, because it decides what a
 * stranger can learn. It is written once, in `examine`, for logins and for explanations of them.
 */
import { type KeyEvents, type KeySource, KeysUnavailable } from '../keys/key-source.ts';
import { counted, foldName, formatList, formatText } from '../lib/text.ts';
import { noPolicy, type TokenPolicy } from '../settings/auth-rule-options.ts';
import type { KeySet } from '../settings/jwks.ts';
import type { LoginSettings } from '../settings/snapshot.ts';
import { type ApiKeyUses, findApiKey, noteKey, type PresentedKey } from './api-keys.ts';
import { readGroups, type UserinfoLookup } from './groups.ts';
import type { Identity, LoginRequest } from './identity.ts';
import { namesOfClaim, namesOfKey, reserveNames, type TokenNames } from './principals.ts';
import { CheckFailure, type Passed, refusal } from './refusals.ts';
import { checkClaims, checkRuleGroups, checkScope } from './rule-checks.ts';
import { noRule } from './rules.ts';
import { parseToken, type Token } from './token.ts';
import type { VerifiedTokens } from './verified-tokens.ts';
import { selectKeys, verifyDates, verifySignature } from './verify.ts';

/** What the decision rests on besides the settings. It is fixed when the process starts. */
export interface AuthenticatorOptions {
  readonly keys: KeySource;
  readonly verified: VerifiedTokens;
  /** Exchanges client credentials for a token. Returns any other request unchanged. */
  readonly exchange: (
    request: LoginRequest,
    values: LoginSettings,
    signal: AbortSignal,
  ) => Promise<LoginRequest>;
  readonly events: Pick<KeyEvents, 'verified'>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Users that no token may log in as, in addition to the built-in ones. */
  readonly reservedUsers: readonly string[];
  /** `allow`: a token may log in as a superuser, so the startup message may name a role. */
  readonly superusers: 'refuse' | 'allow';
  /** Is told of each login with an API key. Undefined if logins are only explained. */
  readonly apiKeyUses?: Pick<ApiKeyUses, 'note'> | undefined;
  /** Asks an issuer for groups that the token does not name. Undefined where that is impossible. */
  readonly userinfo?: UserinfoLookup | undefined;
}

/** For a caller of {@link Authenticator.examine} that needs only the outcome. */
const ignorePassed: Passed = () => undefined;

/** Decides on token logins. Between two of them, only {@link VerifiedTokens} is remembered. */
export class Authenticator {
  readonly #keys: KeySource;
  readonly #verified: VerifiedTokens;
  readonly #exchange: AuthenticatorOptions['exchange'];
  readonly #events: AuthenticatorOptions['events'];
  readonly #now: () => number;
  readonly #isReserved: (user: string) => boolean;
  readonly #superusers: 'refuse' | 'allow';
  readonly #apiKeyUses: AuthenticatorOptions['apiKeyUses'];
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
   * Decides who the client is, by settings that were read once for this login.
   *
   * @throws PgError 28000 for the first check that fails, 28P01 for wrong client credentials; the
   *   signal's reason
   */
  async authenticate(
    request: LoginRequest,
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<Identity> {
    const exchanged = request.isBearer ? request : await this.#exchange(request, values, signal);
    try {
      const identity = await this.examine(exchanged, values, signal, ignorePassed);
      this.#noteUse(identity, values);
      return identity;
    } catch (error) {
      throw error instanceof CheckFailure ? refusal(error, values) : error;
    }
  }

  /**
   * Makes the checks in their order.
   *
   * @param passed is told of each check that passes, and of what the check looked at
   * @throws CheckFailure at the first check that fails; the later ones are not reached
   */
  async examine(
    request: LoginRequest,
    values: LoginSettings,
    signal: AbortSignal,
    passed: Passed,
  ): Promise<Identity> {
    checkEnabled(values);
    passed('enabled', () => 'true');

    const token = parseToken(request.token);
    passed('token', () => `algorithm ${formatText(token.algorithm)}`);

    // Without a user it is not known yet which rule counts.
    checkIssuer(token, values, request.user ? request.rule?.policy : undefined);
    passed('issuer', () => formatText(token.issuer));

    const keys = await this.#findKeys(token, values, signal);
    passed('keys', () => counted(keys.length, 'key'));

    await this.#checkSignature(token, keys, values, signal);
    verifyDates(token, this.#now(), values['pgsso.clock_tolerance']);
    const { expiresAt } = token;
    passed('signature', () => `a valid signature and exp ${new Date(expiresAt).toISOString()}`);

    const claim = values['server.jwt_authentication.api_key_claim'];
    const presented = findApiKey(token, claim, values.apiKeys, this.#now());
    try {
      return await this.#examineUser({ request, token, presented, values, signal, passed });
    } catch (error) {
      throw noteKey(error, claim, presented);
    }
  }

  /** Check 6 and those after it. */
  async #examineUser({
    request,
    token,
    presented,
    values,
    signal,
    passed,
  }: GenuineLogin): Promise<Identity> {
    const key = presented?.key;
    const { policy: first, policyFor } = request.rule ?? noRule;
    const namesBy = (policy: TokenPolicy, told: Passed): TokenNames =>
      key ? namesOfKey(key, values, told) : namesOfClaim(token, values, policy, told);
    const chosen = chooseUser(request.user, namesBy(first, passed), first);
    const { user } = chosen;
    const policy = policyFor(user);
    checkIssuer(token, values, policy);
    // Another rule may have a claim and a map of its own: they must lead to the same user.
    const { principal } =
      policy === first ? chosen : chooseUser(user, namesBy(policy, ignorePassed), policy);
    passed('user', () => formatText(user));

    this.#checkReserved(user);
    passed('reserved', () => formatText(user));

    checkAudience(token, values, policy);
    passed('audience', () => formatList(token.audiences));

    const scope = checkScope(token, policy);
    passed('scope', () => formatList(scope));
    checkClaims(token, policy);

    const followsGroups = values['server.jwt_authentication.authorization.enabled'];
    const readsGroups = followsGroups || policy.groups.length > 0;
    const found = readsGroups ? await readGroups(token, values, this.#userinfo, signal) : undefined;
    if (policy.groups.length > 0) checkRuleGroups(found ?? [], policy);
    passed('claims', () => formatList([...policy.claims.keys()]));

    this.#checkRole(request);
    passed('role', () => (request.namesRole ? 'a role in the startup message' : 'none'));

    const groups = followsGroups ? found : undefined;
    if (groups) passed('groups', () => formatList(groups));

    const { issuer, expiresAt } = token;
    return { user, principal, issuer, expiresAt, groups, ...(key && { apiKey: key.name }) };
  }

  #noteUse({ apiKey }: Identity, { apiKeys }: LoginSettings): void {
    const key = apiKey === undefined ? undefined : apiKeys.get(apiKey);
    if (key) this.#apiKeyUses?.note(key, this.#now());
  }

  /** Check 4. */
  async #findKeys(token: Token, values: LoginSettings, signal: AbortSignal): Promise<KeySet> {
    return this.#keys.keysFor(token.issuer, values, signal).catch(keysFailure);
  }

  /**
   * Check 5, first half. If the set does not have the key, the set may be out of date, so it is
   * fetched once more.
   */
  async #checkSignature(
    token: Token,
    keys: KeySet,
    values: LoginSettings,
    signal: AbortSignal,
  ): Promise<void> {
    const isKnown = selectKeys(token, keys).length > 0;
    const newer = isKnown
      ? undefined
      : await this.#keys.refresh(token.issuer, values, signal).catch(keysFailure);
    const current = newer ?? keys;
    const before = this.#verified.has(token.compact, current, values);
    this.#events.verified(before);
    if (before) return;
    await verifySignature(token, current);
    const { expiresAt } = token;
    // A token without an expiry is refused by the check of the dates.
    if (expiresAt !== undefined) {
      this.#verified.add(token.compact, { keys: current, values, expiresAt });
    }
  }

  /** Check 10. */
  #checkReserved(user: string): void {
    // Without folding, too: a user is reserved in whatever letters.
    if (!this.#isReserved(foldName(user))) return;
    const shown = formatText(user);
    throw new CheckFailure('reserved', {
      found: `the reserved user ${shown}`,
      detail: `cannot use JWT auth to login to a reserved user ${shown}`,
    });
  }

  /**
   * Follows check 11. The backend reports `is_superuser` of the current role, so a superuser could
   * hide behind a role that the startup message sets.
   */
  #checkRole(request: LoginRequest): void {
    if (!request.namesRole || this.#superusers === 'allow') return;
    throw new CheckFailure('role', {
      found: 'role or session_authorization in the startup message',
      detail: 'a login with a token may not name role or session_authorization',
    });
  }
}

/** A login with a token that passed checks 1 to 5. */
interface GenuineLogin {
  readonly request: LoginRequest;
  readonly token: Token & { readonly expiresAt: number };
  readonly presented: PresentedKey;
  readonly values: LoginSettings;
  readonly signal: AbortSignal;
  readonly passed: Passed;
}

/** Turns KeysUnavailable into the failure of check 4, and throws any other error unchanged. */
function keysFailure(error: unknown): never {
  if (!(error instanceof KeysUnavailable)) throw error;
  throw new CheckFailure('keys', { found: error.message, fault: error.fault, cause: error });
}

/** Check 1. */
function checkEnabled(values: LoginSettings): void {
  if (!values['server.jwt_authentication.enabled']) {
    throw new CheckFailure('enabled', { found: 'false' });
  }
}

/** Check 3. The issuer is compared exactly: it is an identifier, not a URL to be normalised. */
function checkIssuer(token: Token, values: LoginSettings, policy: TokenPolicy = noPolicy): void {
  const { issuers } = values['server.jwt_authentication.issuers.configuration'];
  const isConfigured = token.issuer !== '' && issuers.includes(token.issuer);
  if (isConfigured && (policy.issuers?.includes(token.issuer) ?? true)) return;
  const shown = formatText(token.issuer);
  throw new CheckFailure('issuer', {
    found: `"${shown}"`,
    detail: `token issued by ${shown}`,
    ...(isConfigured && { expected: `one of ${formatList(policy.issuers ?? [])}, by its rule` }),
  });
}

/** Check 9: the requested user or, if none is requested, the only user of the token. */
function chooseUser(
  given: string | undefined,
  { principals, principalOf }: TokenNames,
  { folds }: TokenPolicy,
): Pick<Identity, 'user' | 'principal'> {
  const names = [...principalOf.keys()];
  const requested = folds ? foldName(given ?? '') : (given ?? '');
  const user = requested === '' && names.length === 1 ? names[0] : requested;
  const principal = user === undefined ? undefined : principalOf.get(user);
  if (user !== undefined && principal !== undefined) return { user, principal };
  const asked = requested === '' ? 'no user' : `the user ${formatText(requested)}`;
  const issuedFor = formatList(principals);
  throw new CheckFailure('user', {
    found: `${asked}, and a token that yields ${formatList(names)}`,
    detail: `token issued for ${issuedFor} and login was for ${formatText(requested)}`,
  });
}

/** Check 11. The empty string is not an audience, even if both sides have it. */
function checkAudience(token: Token, values: LoginSettings, { audiences }: TokenPolicy): void {
  const accepted = new Set(audiences ?? values['server.jwt_authentication.audience']);
  if (token.audiences.some((audience) => audience !== '' && accepted.has(audience))) return;
  const shown = formatList(token.audiences);
  throw new CheckFailure('audience', {
    found: shown,
    detail: `token issued with an audience of ${shown}`,
    ...(audiences && { expected: `one of ${formatList(audiences)}, by its rule` }),
  });
}

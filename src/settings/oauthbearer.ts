/**
 * The settings of logins by OAUTHBEARER. A setting of `server.oauthbearer_authentication` that is
 * empty leaves its sibling of `server.jwt_authentication` in force. The result has the form of the
 * settings of a login with a password, so that the same code decides on both.
 */
import type { LoginSettings } from './snapshot.ts';

const JWT = 'server.jwt_authentication';
const BEARER = 'server.oauthbearer_authentication';

/** What is advertised without a scope: the scope of OpenID Connect, which asks who somebody is. */
const DEFAULT_SCOPE = 'openid';

/** Made once for each snapshot: what is remembered of a snapshot is found by its identity. */
const known = new WeakMap<LoginSettings, LoginSettings>();

/** The settings of a login by OAUTHBEARER. */
export function bearerSettings<Values extends LoginSettings>(values: Values): Values {
  const derived = known.get(values) ?? derive(values);
  known.set(values, derived);
  // It has all that the values have.
  return derived as Values;
}

/** The settings of each way to bring a token: with a password, and by OAUTHBEARER if that is on. */
export function waysToLogIn(values: LoginSettings): readonly LoginSettings[] {
  return values[`${BEARER}.enabled`] ? [values, bearerSettings(values)] : [values];
}

/** The scope that a client is told to ask for. */
export function advertisedScope(values: LoginSettings, rule: readonly string[]): string {
  return rule.length > 0 ? rule.join(' ') : values[`${BEARER}.scope`] || DEFAULT_SCOPE;
}

function derive(values: LoginSettings): LoginSettings {
  const replaced = new Map([[`${JWT}.enabled`, `${BEARER}.enabled`]]);
  const own = {
    issuers: values[`${BEARER}.issuers`],
    audience: values[`${BEARER}.audience`],
    claim: values[`${BEARER}.claim`],
    jwks: values[`${BEARER}.jwks`],
    fetches: values[`${BEARER}.jwks_auto_fetch.enabled`],
  };
  const hasIssuers = own.issuers.issuers.length > 0;
  const hasAudience = own.audience.length > 0;
  const hasClaim = own.claim !== '';
  // One of the two says where all keys are from. Otherwise keys that are set would be ignored.
  const hasKeys = own.fetches || own.jwks.length > 0;
  if (hasIssuers) replaced.set(`${JWT}.issuers.configuration`, `${BEARER}.issuers`);
  if (hasAudience) replaced.set(`${JWT}.audience`, `${BEARER}.audience`);
  if (hasClaim) replaced.set(`${JWT}.claim`, `${BEARER}.claim`);
  if (hasKeys) {
    replaced.set(`${JWT}.jwks`, `${BEARER}.jwks`);
    replaced.set(`${JWT}.jwks_auto_fetch.enabled`, `${BEARER}.jwks_auto_fetch.enabled`);
  }
  return Object.freeze({
    ...values,
    [`${JWT}.enabled`]: values[`${BEARER}.enabled`],
    ...(hasIssuers && { [`${JWT}.issuers.configuration`]: own.issuers }),
    ...(hasAudience && { [`${JWT}.audience`]: own.audience }),
    ...(hasClaim && { [`${JWT}.claim`]: own.claim }),
    ...(hasKeys && {
      [`${JWT}.jwks`]: own.jwks,
      [`${JWT}.jwks_auto_fetch.enabled`]: own.fetches,
    }),
    derived: { from: values, replaced },
  });
}

/** The name of the setting that counts, by these settings, in place of one of these names. */
export function nameInForce({ derived }: LoginSettings, name: string): string {
  return derived?.replaced.get(name) ?? name;
}

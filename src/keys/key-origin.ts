/**
 * Where an issuer's keys come from, by the settings of a login, and the settings that say how long
 * they are good for. Keys of one origin must not be used for another.
 */
import { createHash } from 'node:crypto';
import { formatText } from '../lib/text.ts';
import { waysToLogIn } from '../settings/oauthbearer.ts';
import type { LoginSettings, SettingsSnapshot } from '../settings/snapshot.ts';
import { providerAccess } from './discovery.ts';
import { KeysUnavailable } from './key-source.ts';

/** The place of an issuer's keys, with all settings that decide whether they can be trusted. */
export interface KeyOrigin {
  readonly issuer: string;
  /** Undefined if the discovery document names it. */
  readonly jwksUri: string | undefined;
  readonly ca: string;
  readonly allowInsecure: boolean;
}

/** The settings that do not decide where keys come from. Times in milliseconds. */
export interface KeyTimes {
  readonly timeout: number;
  /** How old the last good keys may be. */
  readonly maxAge: number;
}

/**
 * The origin of an issuer's keys.
 *
 * @throws KeysUnavailable if the settings name none
 */
export function originOf(issuer: string, values: LoginSettings): KeyOrigin {
  const { jwksUris } = values['server.jwt_authentication.issuers.configuration'];
  const jwksUri = jwksUris?.get(issuer);
  if (jwksUris && jwksUri === undefined) {
    throw new KeysUnavailable(`no entry for ${formatText(issuer)} in the issuer_jwks_map`, 'us');
  }
  const { ca, allowInsecure } = providerAccess(values);
  return { issuer, jwksUri, ca, allowInsecure };
}

/** The origins of all issuers. One without an entry in the map of addresses has none. */
export function originsOf(values: LoginSettings): readonly KeyOrigin[] {
  const { issuers, jwksUris } = values['server.jwt_authentication.issuers.configuration'];
  return issuers
    .filter((issuer) => !jwksUris || jwksUris.has(issuer))
    .map((issuer) => originOf(issuer, values));
}

export function keyTimes(values: LoginSettings): KeyTimes {
  return {
    timeout: values['server.jwt_authentication.client.timeout'],
    maxAge: values['pgsso.jwks_max_age'],
  };
}

/** The origin as text. Two origins have the same text only if they are equal. */
export function originText({ issuer, jwksUri, ca, allowInsecure }: KeyOrigin): string {
  return JSON.stringify([issuer, jwksUri ?? null, ca, allowInsecure]);
}

/** The same in 64 characters. */
export function originDigest(origin: KeyOrigin): string {
  return createHash('sha256').update(originText(origin)).digest('hex');
}

/** Names of origins, made once a snapshot: a bundle of authorities may have a megabyte. */
export class OriginNames {
  /** By snapshot of the settings, then by issuer. */
  readonly #names = new WeakMap<LoginSettings, ReadonlyMap<string, string>>();

  nameOf(origin: KeyOrigin, values: LoginSettings): string {
    const names = this.#names.get(values);
    const known = names?.get(origin.issuer);
    if (known !== undefined) return known;
    const name = originDigest(origin);
    this.#names.set(values, new Map([...(names ?? []), [origin.issuer, name]]));
    return name;
  }

  /** Finds the issuer of an origin in one of the snapshots, with the settings that name it. */
  find(
    name: string,
    snapshots: readonly SettingsSnapshot[],
  ): { readonly issuer: string; readonly values: LoginSettings } | undefined {
    for (const way of snapshots.flatMap(({ values }) => waysToLogIn(values))) {
      const found = originsOf(way).find((origin) => this.nameOf(origin, way) === name);
      if (found) return { issuer: found.issuer, values: way };
    }
    return undefined;
  }
}

/**
 * All settings at one moment, parsed and immutable. A login takes one snapshot and reads nothing
 * else, so that a change in the middle of it cannot mix old issuers with new keys.
 */
import { type ApiKeys, noApiKeys } from './api-keys.ts';
import { definitions, type SettingName, type SettingValue, settingNames } from './definitions.ts';
import { parseSetting } from './lookup.ts';

/** Every setting's parsed value, and the API keys: all that a login reads. */
export type SettingValues = { readonly [N in SettingName]: SettingValue<N> } & {
  readonly apiKeys: ApiKeys;
};

/** A value that an operator set. */
export interface StoredSetting {
  readonly text: string;
  /** The SQL user who set it. */
  readonly user: string;
  /** When, in ms since the epoch. */
  readonly at: number;
}

/** The settings that have a value in the store. */
export type StoredSettings = ReadonlyMap<SettingName, StoredSetting>;

/** The defaults of this process, in canonical form. */
export type ProcessDefaults = ReadonlyMap<SettingName, string>;

/** What SHOW says about a setting. */
export interface SettingState {
  /** The value in canonical form. */
  readonly text: string;
  /** What RESET returns to: the process's default, or else the table's. */
  readonly defaultText: string;
  readonly origin: 'default' | 'override';
  /** Who set the override, and when. */
  readonly changed: { readonly user: string; readonly at: number } | undefined;
}

/** All settings at one moment. */
export interface SettingsSnapshot {
  /** Counts the snapshots of this process, from 1. */
  readonly version: number;
  readonly values: SettingValues;
  readonly states: { readonly [N in SettingName]: SettingState };
}

/** What a snapshot is made of. */
export interface SnapshotSources {
  readonly stored: StoredSettings;
  /** None by default. */
  readonly apiKeys?: ApiKeys;
  readonly processDefaults: ProcessDefaults;
  /** The snapshot before; what has the same text in it is not parsed again. */
  readonly previous: SettingsSnapshot | undefined;
}

/**
 * Parses what is stored over the defaults.
 *
 * @throws PgError 22023 for the first bad value; its reason names the setting
 */
export function buildSnapshot({
  stored,
  apiKeys = noApiKeys,
  processDefaults,
  previous,
}: SnapshotSources): SettingsSnapshot {
  const values: [SettingName, unknown][] = [];
  const states: [SettingName, SettingState][] = [];
  for (const name of settingNames) {
    const override = stored.get(name);
    const defaultText = processDefaults.get(name) ?? definitions[name].default;
    const source = override?.text ?? defaultText;
    const same = previous?.states[name].text === source;
    const { value, text } = same
      ? { value: previous.values[name], text: source }
      : parseSetting(name, source);
    const changed = override && Object.freeze({ user: override.user, at: override.at });
    values.push([name, value]);
    states.push([
      name,
      Object.freeze({ text, defaultText, origin: override ? 'override' : 'default', changed }),
    ]);
  }
  return Object.freeze({
    version: (previous?.version ?? 0) + 1,
    // Each name of the table went in once, with the value that its own row parsed.
    values: Object.freeze({
      ...Object.fromEntries(values),
      apiKeys: Object.freeze(apiKeys),
    }) as SettingValues,
    states: Object.freeze(Object.fromEntries(states)) as SettingsSnapshot['states'],
  });
}

/*
 * The settings that a login decision reads, and no others: a check that wants one more says so
 * here. They come from one snapshot, so that a change in the middle of a login is seen by all of
 * its checks or by none.
 */

/** The part of the settings that decides on a login; any snapshot's values are one. */
export type LoginSettings = Pick<
  SettingValues,
  | 'server.jwt_authentication.enabled'
  | 'server.jwt_authentication.jwks'
  | 'server.jwt_authentication.jwks_auto_fetch.enabled'
  | 'server.jwt_authentication.issuers.configuration'
  | 'server.jwt_authentication.audience'
  | 'server.jwt_authentication.claim'
  | 'server.jwt_authentication.api_key_claim'
  | 'apiKeys'
  | 'server.jwt_authentication.authorization.enabled'
  | 'server.jwt_authentication.group_claim'
  | 'server.jwt_authentication.userinfo_group_key'
  | 'server.identity_map.configuration'
  | 'server.jwt_authentication.issuers.custom_ca'
  | 'server.jwt_authentication.client.timeout'
  | 'pgsso.clock_tolerance'
  | 'pgsso.jwks_max_age'
  | 'pgsso.allow_insecure_http'
  | 'pgsso.client_credentials.issuer'
  | 'pgsso.client_credentials.audience'
  | 'pgsso.client_credentials.scope'
>;

/**
 * All settings at one moment, parsed and immutable. A login takes one snapshot and reads nothing
 * else, so that a change during the login cannot mix old issuers with new keys.
 */
import { type ApiKeys, noApiKeys } from './api-keys.ts';
import { definitions, type SettingName, type SettingValue, settingNames } from './definitions.ts';
import { parseSetting } from './lookup.ts';

/** The parsed value of every setting, the API keys, and what the process was started with. */
export type SettingValues = { readonly [N in SettingName]: SettingValue<N> } & {
  readonly apiKeys: ApiKeys;
} & ProcessFacts;

/** Options of the process that decide what a setting means. */
export interface ProcessFacts {
  /** `--native-logins`. Undefined if no logins are made. */
  readonly nativeLogins?: 'allow' | 'deny' | undefined;
}

/** Says how the settings of a login differ from those of a snapshot. */
export interface Derivation {
  /** The settings of the snapshot. */
  readonly from: LoginSettings;
  /** The name of a setting that another one stands in place of, and the name of that one. */
  readonly replaced: ReadonlyMap<string, string>;
}

/**
 * The values that a login decision reads. A check that needs another setting adds it here. The
 * values of any snapshot have this type.
 */
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
  | 'server.oauthbearer_authentication.enabled'
  | 'server.oauthbearer_authentication.issuers'
  | 'server.oauthbearer_authentication.audience'
  | 'server.oauthbearer_authentication.jwks'
  | 'server.oauthbearer_authentication.jwks_auto_fetch.enabled'
  | 'server.oauthbearer_authentication.claim'
  | 'server.oauthbearer_authentication.scope'
> & {
  /** Absent for a login whose token is the password. */
  readonly derived?: Derivation;
};

/** A value that an operator set. */
export interface StoredSetting {
  /** The value in canonical form. */
  readonly text: string;
  /** The SQL user who set it. */
  readonly user: string;
  /** When it was set, in milliseconds since the epoch. */
  readonly at: number;
}

/** The settings that have a value in the store. */
export type StoredSettings = ReadonlyMap<SettingName, StoredSetting>;

/** Everything that a store holds, except for the history. */
export interface StoredState {
  readonly stored: StoredSettings;
  readonly apiKeys: ApiKeys;
}

/** The defaults of this process, in canonical form. */
export type ProcessDefaults = ReadonlyMap<SettingName, string>;

/** What SHOW prints of a setting. */
export interface SettingState {
  /** The value in canonical form. */
  readonly text: string;
  /** The value after RESET: the default of the process, or else of the table. */
  readonly defaultText: string;
  readonly origin: 'default' | 'override';
}

/** All settings at one moment. */
export interface SettingsSnapshot {
  /** Counts the snapshots of this process, from 1. */
  readonly version: number;
  readonly values: SettingValues;
  readonly states: { readonly [N in SettingName]: SettingState };
}

/** The stored values of a snapshot, and its API keys: what another process builds the same from. */
export interface StoredValues {
  readonly texts: ReadonlyMap<SettingName, string>;
  readonly apiKeys: ApiKeys;
}

/** Takes the stored values out of a snapshot. */
export function storedValues({ values, states }: SettingsSnapshot): StoredValues {
  const stored = settingNames.filter((name) => states[name].origin === 'override');
  return {
    texts: new Map(stored.map((name) => [name, states[name].text])),
    apiKeys: values.apiKeys,
  };
}

/** What a snapshot is made of. */
export interface SnapshotSources extends ProcessFacts {
  readonly stored: StoredSettings;
  /** Default: none. */
  readonly apiKeys?: ApiKeys;
  readonly processDefaults: ProcessDefaults;
  /** The snapshot before. A setting that has the same text there is not parsed again. */
  readonly previous: SettingsSnapshot | undefined;
}

/**
 * Parses the stored values, and the defaults of settings without one.
 *
 * @throws PgError 22023 for the first bad value; its reason names the setting
 */
export function buildSnapshot({
  stored,
  apiKeys = noApiKeys,
  processDefaults,
  nativeLogins,
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
    values.push([name, value]);
    const origin = override ? 'override' : 'default';
    states.push([name, Object.freeze({ text, defaultText, origin })]);
  }
  return Object.freeze({
    version: (previous?.version ?? 0) + 1,
    // The loop added each name of the table once, with the value that its own row parsed.
    values: Object.freeze({
      ...Object.fromEntries(values),
      apiKeys: Object.freeze(apiKeys),
      nativeLogins,
    }) as SettingValues,
    states: Object.freeze(Object.fromEntries(states)) as SettingsSnapshot['states'],
  });
}

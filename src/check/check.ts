/**
 * Checks a configuration before it goes live (`pgsso check`), with the options of `serve`, and
 * looks at all that `serve` would open: the settings and their database, the keys of the issuers,
 * the directory, the data directory, the addresses, the certificate for clients, the limits of the
 * system, and the backends with their files. It changes nothing and leaves nothing open.
 */

import { existsSync } from 'node:fs';
import { noKeyStore } from '../keys/key-files.ts';
import { noEvents } from '../keys/key-source.ts';
import { errorText } from '../lib/errors.ts';
import { counted } from '../lib/text.ts';
import type { ServeOptions } from '../server/options.ts';
import { openProviders } from '../server/providers.ts';
import { waysToLogIn } from '../settings/oauthbearer.ts';
import { readProcessDefaults } from '../settings/process-defaults.ts';
import {
  buildSnapshot,
  type LoginSettings,
  type ProcessFacts,
  type SettingValues,
} from '../settings/snapshot.ts';
import { readStoredState } from '../settings/store/last-snapshot.ts';
import { doubtfulSettings, missingSettings } from '../settings/warnings.ts';
import { type BackendCheckOptions, checkBackends } from './backends.ts';
import { checkClientTls } from './certificates.ts';
import { about, type Finding, orFinding } from './finding.ts';
import { checkDirectory, checkSettingsDatabase } from './own-databases.ts';
import { checkDataDirectory, checkListeners } from './places.ts';
import { checkSystem } from './system.ts';

export type CheckOptions = ServeOptions & BackendCheckOptions;

/**
 * Checks everything.
 *
 * @param now milliseconds since the epoch
 * @throws UsageError for wrong or contradictory options
 */
export async function check(
  options: CheckOptions,
  now: () => number = Date.now,
): Promise<Finding[]> {
  const { values, findings } = await checkSettings(options);
  const directory = await checkDirectory(options, values);
  return [
    ...findings,
    ...(await checkSettingsDatabase(options)),
    ...directory.findings,
    ...(await checkDataDirectory(options)),
    ...(await checkListeners(options)),
    ...(await orFinding('--tls-cert', checkClientTls(options, now()))),
    ...(await checkSystem(options)),
    ...(await checkBackends({ ...options, directoryUser: directory.user }, now)),
  ];
}

/** The options that say where settings come from. */
export interface SettingSources extends ProcessFacts {
  readonly dataDir: string;
  readonly settings: readonly string[];
  readonly settingsUrl?: string | undefined;
  readonly environment: NodeJS.ProcessEnv;
}

/** The findings about the settings. */
interface CheckedSettings {
  readonly findings: Finding[];
  /** Undefined if they cannot be read. */
  readonly values: SettingValues | undefined;
}

/**
 * Checks whether the settings are valid, whether a token can be accepted with them, and the issuers
 * that they name.
 *
 * @throws UsageError for a wrong value in the command line or the environment
 */
async function checkSettings({
  dataDir,
  settings,
  settingsUrl,
  environment,
  nativeLogins,
}: SettingSources): Promise<CheckedSettings> {
  const say = about('settings');
  const processDefaults = readProcessDefaults(settings, environment);
  let values: SettingValues;
  try {
    // The data directory is made at the first start.
    const { stored } = existsSync(dataDir) ? await readStoredState(dataDir) : { stored: new Map() };
    values = buildSnapshot({ stored, processDefaults, nativeLogins, previous: undefined }).values;
  } catch (error) {
    return { findings: [say('error', `--data-dir: ${errorText(error)}`)], values: undefined };
  }
  const elsewhere =
    settingsUrl === undefined
      ? []
      : [say('warning', 'looked at as they were last read from --settings')];
  const warnings = doubtfulSettings(values).map((text) => say('warning', text));
  const findings = [
    ...lockedOut(values).map((text) => say('error', text)),
    ...elsewhere,
    ...warnings,
    say('ok', 'they are valid'),
    ...(await checkIssuers(values, environment)),
  ];
  return { findings, values };
}

/** The settings with which every token is refused. */
function lockedOut(values: SettingValues): string[] {
  const ways = waysToLogIn(values).filter((way) => way['server.jwt_authentication.enabled']);
  if (ways.length === 0) {
    return ['server.jwt_authentication.enabled is false: every token is refused'];
  }
  const missing = new Set(ways.flatMap(missingSettings));
  return [...missing].map((name) => `${name} is empty: every token is refused`);
}

/** Fetches the keys of each issuer, as a login would. Nothing is stored. */
async function checkIssuers(
  values: SettingValues,
  environment: NodeJS.ProcessEnv,
): Promise<Finding[]> {
  const origins = originsOf(values);
  if (origins.length === 0) return [];
  const providers = openProviders({ environment, maxLogins: 1 }, noKeyStore, noEvents);
  const { signal } = new AbortController();
  const findings = origins.map(async ({ issuer, way }): Promise<Finding> => {
    const say = about(`issuer ${issuer}`);
    try {
      const { length } = await providers.keys.keysFor(issuer, way, signal);
      return length > 0
        ? say('ok', counted(length, 'key'))
        : say('error', 'it has no key that can be used');
    } catch (error) {
      return say('error', errorText(error));
    }
  });
  try {
    return await Promise.all(findings);
  } finally {
    await providers.close();
  }
}

/** The issuers whose keys are fetched, each with the settings of a way to log in that says so. */
function originsOf(values: SettingValues): { issuer: string; way: LoginSettings }[] {
  const distinct = new Map<string, { issuer: string; way: LoginSettings }>();
  for (const way of waysToLogIn(values)) {
    if (!way['server.jwt_authentication.jwks_auto_fetch.enabled']) continue;
    const { issuers, jwksUris } = way['server.jwt_authentication.issuers.configuration'];
    for (const issuer of issuers) {
      distinct.set(`${issuer} ${jwksUris?.get(issuer)}`, { issuer, way });
    }
  }
  return [...distinct.values()];
}

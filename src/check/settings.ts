/** The settings as `pgsso check` looks at them: whether they are valid, and whether any token could pass with them. */
import { existsSync } from 'node:fs';
import { errorText } from '../errors.ts';
import { readKeptSettings } from '../settings/kept-settings.ts';
import { readProcessDefaults } from '../settings/process-defaults.ts';
import { buildSnapshot, type SettingValues } from '../settings/snapshot.ts';
import { doubtfulSettings, missingSettings } from '../settings/warnings.ts';
import { about, type Finding } from './finding.ts';
import { checkIssuers } from './issuers.ts';

/** Where settings come from. */
export interface SettingSources {
  readonly dataDir: string;
  readonly settings: readonly string[];
  readonly settingsUrl?: string | undefined;
  readonly environment: NodeJS.ProcessEnv;
}

/**
 * Looks at the settings, and at the issuers that they name; nothing is changed.
 *
 * @throws UsageError for a default that the command line or the environment has wrong
 */
export async function checkSettings({ dataDir, settings, settingsUrl, environment }: SettingSources): Promise<Finding[]> {
  const say = about('settings');
  const processDefaults = readProcessDefaults(settings, environment);
  let values: SettingValues;
  try {
    // It is made at the first start.
    const { stored } = existsSync(dataDir) ? await readKeptSettings(dataDir) : { stored: new Map() };
    values = buildSnapshot({ stored, processDefaults, previous: undefined }).values;
  } catch (error) {
    return [say('error', `--data-dir: ${errorText(error)}`)];
  }
  const elsewhere = settingsUrl === undefined ? [] : [say('warning', 'looked at as they were last read from --settings')];
  const warnings = doubtfulSettings(values).map((text) => say('warning', text));
  const findings = [...lockedOut(values).map((text) => say('error', text)), ...elsewhere, ...warnings];
  return [...findings, say('ok', 'they are valid'), ...(await checkIssuers(values, environment))];
}

/** With what is missing here no token gets in. */
function lockedOut(values: SettingValues): string[] {
  if (!values['server.jwt_authentication.enabled']) {
    return ['server.jwt_authentication.enabled is false: every token is refused'];
  }
  return missingSettings(values).map((name) => `${name} is empty: every token is refused`);
}

/** The settings as `pgsso check` looks at them: whether they are valid, and whether any token could pass with them. */
import { stat } from 'node:fs/promises';
import { openDataDir } from '../data-dir.ts';
import { errorText } from '../errors.ts';
import { FileStore } from '../settings/file-store.ts';
import { readProcessDefaults } from '../settings/process-defaults.ts';
import { buildSnapshot, type ProcessDefaults, type SettingValues } from '../settings/snapshot.ts';
import { settingWarnings } from '../settings/warnings.ts';
import { about, type Finding } from './finding.ts';

/** Where settings come from. */
export interface SettingSources {
  readonly dataDir: string;
  readonly settings: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
}

/**
 * Reads the settings without changing anything.
 *
 * @throws UsageError for a default that the command line or the environment has wrong
 */
export async function checkSettings({ dataDir, settings, environment }: SettingSources): Promise<Finding[]> {
  const say = about('settings');
  const processDefaults = readProcessDefaults(settings, environment);
  let values: SettingValues;
  try {
    values = await readValues(dataDir, processDefaults);
  } catch (error) {
    return [say('error', errorText(error))];
  }
  const warnings = settingWarnings(values).map((text) => say('warning', text));
  return [...lockedOut(values).map((text) => say('error', text)), ...warnings, say('ok', 'they are valid')];
}

async function readValues(dataDir: string, processDefaults: ProcessDefaults): Promise<SettingValues> {
  const exists = await stat(dataDir).then(
    () => true,
    () => false,
  );
  if (!exists) return buildSnapshot({ stored: new Map(), processDefaults, previous: undefined }).values;
  const directory = await openDataDir(dataDir);
  const store = await FileStore.open({ directory, processDefaults, now: Date.now, onProblem: () => undefined });
  const { values } = store.current;
  await store.close();
  return values;
}

/** With what is missing here no token gets in. */
function lockedOut(values: SettingValues): string[] {
  if (!values['server.jwt_authentication.enabled']) {
    return ['server.jwt_authentication.enabled is false: every token is refused'];
  }
  const missing: [string, boolean][] = [
    [
      'server.jwt_authentication.issuers.configuration',
      values['server.jwt_authentication.issuers.configuration'].issuers.length === 0,
    ],
    ['server.jwt_authentication.audience', values['server.jwt_authentication.audience'].length === 0],
    [
      'server.jwt_authentication.jwks',
      values['server.jwt_authentication.jwks'].length === 0 && !values['server.jwt_authentication.jwks_auto_fetch.enabled'],
    ],
  ];
  return missing.filter(([, empty]) => empty).map(([name]) => `${name} is empty: every token is refused`);
}

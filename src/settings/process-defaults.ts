/**
 * The defaults of this process, from `--set NAME=VALUE` and from environment variables. They
 * replace the defaults of the table and are never written to the store. RESET returns to them.
 */
import { errorText, PgError, UsageError } from '../lib/errors.ts';
import { definitions, type SettingName, settingNames } from './definitions.ts';
import { findSetting, knownNames, parseSetting } from './lookup.ts';
import type { ProcessDefaults } from './snapshot.ts';

const VARIABLE_PREFIX = 'PGSSO_SET_';

const byVariable: ReadonlyMap<string, SettingName> = new Map(
  Array.from(knownNames, ([known, name]) => [variableName(known), name] as const),
);

/** The environment variable of a setting: `PGSSO_SET_` and the name in upper case, dots as `_`. */
export function variableName(name: string): string {
  return VARIABLE_PREFIX + name.toUpperCase().replaceAll('.', '_');
}

/**
 * Reads the defaults, in canonical form. A flag wins over a variable, and a later flag over an
 * earlier one.
 *
 * @param flags the values of `--set`
 * @param environment all variables; those that begin with `PGSSO_SET_` are read
 * @throws UsageError that names the option or the variable, also for an unknown setting
 */
export function readProcessDefaults(
  flags: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): ProcessDefaults {
  const defaults = new Map<SettingName, string>();
  for (const [variable, text] of Object.entries(environment)) {
    if (!variable.startsWith(VARIABLE_PREFIX) || text === undefined) continue;
    const name = byVariable.get(variable);
    if (name === undefined)
      throw new UsageError(
        `${variable}: there is no such setting; the variables are ${listVariables()}`,
      );
    if (defaults.has(name))
      throw new UsageError(`${variable}: another variable sets '${name}', too`);
    defaults.set(name, parseDefault(variable, name, text));
  }
  for (const flag of flags) {
    const equals = flag.indexOf('=');
    // The text is not repeated, since without the `=` it may be a value.
    if (equals === -1) throw new UsageError('--set: give NAME=VALUE');
    const name = findFlag(flag.slice(0, equals));
    if (definitions[name].secret)
      throw new UsageError(
        `--set ${name}: everybody on this host can read the command line; ` +
          `set the variable ${variableName(name)} instead`,
      );
    defaults.set(name, parseDefault(`--set ${name}`, name, flag.slice(equals + 1)));
  }
  return defaults;
}

function findFlag(typed: string): SettingName {
  try {
    return findSetting(typed.trim());
  } catch (error) {
    throw usageError('--set', error);
  }
}

function parseDefault(option: string, name: SettingName, text: string): string {
  try {
    return parseSetting(name, text).text;
  } catch (error) {
    throw usageError(option, error);
  }
}

/** One line with the option, the error and its hint. */
function usageError(option: string, error: unknown): UsageError {
  const hint = error instanceof PgError && error.hint !== undefined ? ` (${error.hint})` : '';
  return new UsageError(`${option}: ${errorText(error)}${hint}`, { cause: error });
}

function listVariables(): string {
  return settingNames.map(variableName).join(', ');
}

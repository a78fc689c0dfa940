/**
 * Finds the row of a setting by the name that an operator typed, and parses a value by that row.
 * Names and aliases are found in any case. The error of an unknown name proposes the nearest one.
 */
import { PgError } from '../lib/errors.ts';
import {
  type Definition,
  definitions,
  type Parsed,
  type SettingName,
  type SettingValue,
  settingNames,
} from './definitions.ts';
import { invalidSetting, quote } from './values.ts';

/** Characters. A megabyte holds thousands of keys or rules; more would slow down every change. */
const VALUE_LIMIT = 1024 * 1024;

/** Characters. No name is longer. */
const NAME_LIMIT = 100;

const byName: ReadonlyMap<string, SettingName> = new Map(
  settingNames.flatMap((name) =>
    [name, ...definitions[name].aliases].map((known) => [known, name] as const),
  ),
);

/** A text that was parsed, and its result, which nobody can change. */
interface Remembered {
  readonly given: string;
  readonly parsed: Parsed<unknown>;
}

/** Of each setting the value that is stored, and the one that replaces it. */
const REMEMBERED = 2;

const remembered = new Map<SettingName, readonly Remembered[]>();

/** Every name and alias, with the name of its setting. */
export const knownNames: Iterable<readonly [string, SettingName]> = byName;

/**
 * The name of the setting with that name or alias, in any case.
 *
 * @throws PgError 42704 with a hint that names the nearest setting
 */
export function findSetting(name: string): SettingName {
  const setting = byName.get(name.toLowerCase());
  if (setting !== undefined) return setting;
  const shown = quote(name).slice(1, -1);
  throw new PgError({
    code: 'unknown_setting',
    message: `unknown cluster setting '${shown}'`,
    hint: `The nearest setting is ${nearestName(name.toLowerCase().slice(0, NAME_LIMIT))}.`,
  });
}

/**
 * Parses and checks a text for a setting. The results are remembered: a change reads all stored
 * settings again, and a map of a thousand expressions takes a tenth of a second.
 *
 * @throws PgError 22023, whose detail and reason name the setting
 */
export function parseSetting<N extends SettingName>(
  name: N,
  text: string,
): Parsed<SettingValue<N>> {
  const known = remembered.get(name) ?? [];
  const found = known.find((result) => result.given === text);
  if (found) return found.parsed as Parsed<SettingValue<N>>;
  const parsed = parseAnew(name, text);
  remembered.set(name, [{ given: text, parsed }, ...known].slice(0, REMEMBERED));
  return parsed;
}

function parseAnew<N extends SettingName>(name: N, text: string): Parsed<SettingValue<N>> {
  // TypeScript cannot find the row's type by a name that is a type parameter.
  const definition: Definition<unknown> = definitions[name];
  try {
    if (text.length > VALUE_LIMIT)
      throw invalidSetting(`the value is longer than ${VALUE_LIMIT} characters`);
    return Object.freeze(definition.parse(text, name)) as Parsed<SettingValue<N>>;
  } catch (error) {
    if (!(error instanceof PgError)) throw error;
    const { code, sqlstate, message, hint } = error;
    const detail = `cluster setting '${name}'`;
    throw new PgError({
      code,
      sqlstate,
      message,
      detail,
      hint,
      reason: `${detail}: ${message}`,
      cause: error,
    });
  }
}

function nearestName(typed: string): SettingName {
  let [nearest] = byName.values();
  let least = Number.POSITIVE_INFINITY;
  for (const [known, name] of byName) {
    const distance = editDistance(typed, known);
    if (distance < least) {
      least = distance;
      nearest = name;
    }
  }
  return nearest ?? 'server.jwt_authentication.enabled';
}

/** Levenshtein's distance, one row of the matrix at a time. */
function editDistance(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (const [row, character] of [...from].entries()) {
    const current = [row + 1];
    for (let column = 1; column <= to.length; column += 1) {
      const replaced = (previous[column - 1] ?? 0) + (character === to[column - 1] ? 0 : 1);
      current.push(Math.min(replaced, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[to.length] ?? 0;
}

/** SET CLUSTER SETTING and RESET CLUSTER SETTING: the only statements that change what logins read. */
import { PgError } from '../../errors.ts';
import type { SettingName } from '../../settings/definitions.ts';
import { findSetting } from '../../settings/lookup.ts';
import type { Requirement } from '../privileges.ts';
import { type Rule, textOf } from '../statement.ts';
import type { StatementReader } from '../statement-reader.ts';

export const setSetting: Rule = {
  begins: 'SET CLUSTER SETTING',
  help: {
    syntax: 'SET CLUSTER SETTING name = value | DEFAULT',
    does: 'changes a setting, durably and for the next login; TO may stand for =',
  },
  parse(reader) {
    const name = readSetting(reader);
    reader.equals();
    const common = { tag: 'SET CLUSTER SETTING', columns: [], requires: changing(name) };
    if (reader.takeWords('DEFAULT')) return { ...common, run: (session) => session.change({ kind: 'reset', name }) };
    const value = reader.value();
    return {
      ...common,
      run: (session, parameters) => session.change({ kind: 'set', name, text: textOf(value, parameters) }),
    };
  },
};

export const resetSetting: Rule = {
  begins: 'RESET CLUSTER SETTING',
  help: { syntax: 'RESET CLUSTER SETTING name', does: 'gives a setting its default again' },
  parse(reader) {
    const name = readSetting(reader);
    return {
      tag: 'RESET CLUSTER SETTING',
      columns: [],
      requires: changing(name),
      run: (session) => session.change({ kind: 'reset', name }),
    };
  },
};

/**
 * Reads the name of a setting.
 *
 * @throws PgError 42704 with the position, and a hint at the nearest name
 */
export function readSetting(reader: StatementReader): SettingName {
  const { name, position } = reader.name();
  try {
    return findSetting(name);
  } catch (error) {
    if (!(error instanceof PgError)) throw error;
    const { code, sqlstate, message, hint } = error;
    throw new PgError({ code, sqlstate, message, hint, position });
  }
}

function changing(name: SettingName): Requirement {
  return { right: 'modify', to: `set cluster setting '${name}'` };
}

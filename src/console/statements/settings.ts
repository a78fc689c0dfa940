/**
 * The statements about settings: SET and RESET CLUSTER SETTING, SHOW CLUSTER SETTING, SHOW CLUSTER
 * SETTINGS and SHOW CLUSTER SETTING HISTORY.
 */
import { PgError } from '../../lib/errors.ts';
import { type HistoryEntry, isOfApiKey } from '../../settings/changes.ts';
import { definitions, type SettingName, settingNames } from '../../settings/definitions.ts';
import { findSetting } from '../../settings/lookup.ts';
import { parseBoolean, parseDuration } from '../../settings/values.ts';
import {
  type ParsedStatement,
  type Rule,
  type StatementReader,
  textOf,
} from '../language/reader.ts';
import type { Requirement } from '../operators.ts';
import { type Cell, type Column, textColumns } from '../results.ts';

/** SET CLUSTER SETTING. */
export const setSetting: Rule = {
  begins: 'SET CLUSTER SETTING',
  help: {
    syntax: 'SET CLUSTER SETTING name = value | DEFAULT',
    does: 'changes a setting, durably and for the next login; TO may stand for =',
  },
  parse(reader) {
    const { name, notices } = readSetting(reader);
    reader.equals();
    const common = { tag: 'SET CLUSTER SETTING', columns: [], requires: changing(name) };
    if (reader.takeWords('DEFAULT'))
      return withNotices(notices, {
        ...common,
        run: (session) => session.change({ kind: 'reset', name }),
      });
    const value = reader.value();
    return withNotices(notices, {
      ...common,
      run: (session, parameters) =>
        session.change({ kind: 'set', name, text: textOf(value, parameters) }),
    });
  },
};

/** RESET CLUSTER SETTING. */
export const resetSetting: Rule = {
  begins: 'RESET CLUSTER SETTING',
  help: { syntax: 'RESET CLUSTER SETTING name', does: 'gives a setting its default again' },
  parse(reader) {
    const { name, notices } = readSetting(reader);
    return withNotices(notices, {
      tag: 'RESET CLUSTER SETTING',
      columns: [],
      requires: changing(name),
      run: (session) => session.change({ kind: 'reset', name }),
    });
  },
};

/** The types of SHOW CLUSTER SETTING, which are those that CockroachDB gives it. */
const columnTypes = { b: 'bool', d: 'interval', i: 'int8', s: 'text' } as const;

/**
 * SHOW CLUSTER SETTING name: one row with one column, which has the name and the type of the
 * setting.
 */
export const showSetting: Rule = {
  begins: 'SHOW CLUSTER SETTING',
  help: { syntax: 'SHOW CLUSTER SETTING name', does: 'the value of a setting' },
  parse(reader) {
    const { name, notices } = readSetting(reader);
    const type = columnTypes[definitions[name].type];
    return withNotices(notices, {
      tag: 'SHOW',
      columns: [{ name, type }],
      requires: { right: 'view', to: `show cluster setting '${name}'` },
      run: (session) => ({ rows: [[typedCell(session.stateOf(name).text, type)]] }),
    });
  },
};

const COLUMNS = ['variable', 'value', 'setting_type', 'description', 'default_value', 'origin'];

const PUBLIC: Column = { name: 'public', type: 'bool' };

/** SHOW CLUSTER SETTINGS in its variants: a row for each setting. */
export const showSettingsRules: readonly Rule[] = [
  showSettings('SHOW CLUSTER SETTINGS', false, {
    syntax: 'SHOW [PUBLIC | ALL] CLUSTER SETTINGS',
    does: 'every setting with its value, type, meaning, default and origin',
  }),
  showSettings('SHOW PUBLIC CLUSTER SETTINGS', false),
  showSettings('SHOW ALL CLUSTER SETTINGS', true),
  showSettings('SHOW CLUSTER SETTING ALL', true),
];

/** SHOW CLUSTER SETTING HISTORY: a row for each change, the newest first. */
export const showHistory: Rule = {
  begins: 'SHOW CLUSTER SETTING HISTORY',
  help: {
    syntax: 'SHOW CLUSTER SETTING HISTORY [name]',
    does: 'the changes of all settings or of one, newest first; sensitive values are not kept',
  },
  parse(reader) {
    const { name, notices } = reader.atEnd ? everySetting : readSetting(reader);
    return withNotices(notices, {
      tag: 'SHOW',
      columns: textColumns('changed_at', 'changed_by', 'variable', 'operation', 'value'),
      requires: { right: 'view', to: 'show the history of cluster settings' },
      async run({ services }) {
        const history = await services.settings.history(name);
        return {
          rows: history.map((entry) => [
            new Date(entry.at).toISOString(),
            entry.user,
            entry.name,
            operationOf(entry),
            entry.text,
          ]),
        };
      },
    });
  },
};

/** @param all adds the column `public`, which CockroachDB has; every setting here is public */
function showSettings(begins: string, all: boolean, help?: Rule['help']): Rule {
  return {
    begins,
    ...(help && { help }),
    parse: () => ({
      tag: 'SHOW',
      columns: [...textColumns(...COLUMNS), ...(all ? [PUBLIC] : [])],
      requires: { right: 'view', to: 'show cluster settings' },
      run: (session) => ({
        rows: settingNames.map((name) => {
          const { type, description } = definitions[name];
          const { text, defaultText, origin } = session.stateOf(name);
          const row = [name, text, type, description, defaultText, origin];
          return all ? [...row, true] : row;
        }),
      }),
    }),
  };
}

/** A setting that a statement names. */
interface NamedSetting {
  /** Undefined: all of them. */
  readonly name: SettingName | undefined;
  /** What to say about the name that was written. */
  readonly notices: readonly string[];
}

const everySetting: NamedSetting = { name: undefined, notices: [] };

/**
 * Reads the name of a setting. An alias gets a notice, in CockroachDB's words.
 *
 * @throws PgError 42704 with the position, and a hint with the nearest name
 */
function readSetting(reader: StatementReader): NamedSetting & { readonly name: SettingName } {
  const { name: written, start } = reader.name();
  try {
    const name = findSetting(written);
    const alias = written.toLowerCase();
    const notice = `"${alias}" is now an alias for "${name}", the preferred setting name`;
    return { name, notices: alias === name ? [] : [notice] };
  } catch (error) {
    if (!(error instanceof PgError)) throw error;
    const { code, sqlstate, message, hint } = error;
    throw new PgError({
      code,
      sqlstate,
      message,
      hint,
      position: reader.positionAt(start),
    });
  }
}

/** The statement, which also sends these notices when it succeeds. */
function withNotices(notices: readonly string[], statement: ParsedStatement): ParsedStatement {
  if (notices.length === 0) return statement;
  return {
    ...statement,
    run: async (session, parameters) => ({
      ...(await statement.run(session, parameters)),
      notices,
    }),
  };
}

/** @param text in canonical form */
function typedCell(text: string, type: Column['type']): Cell {
  if (type === 'bool') return parseBoolean(text);
  if (type === 'interval') return parseDuration(text);
  return type === 'int8' ? Number(text) : text;
}

function changing(name: SettingName): Requirement {
  return { right: 'modify', to: `set cluster setting '${name}'` };
}

function operationOf(entry: HistoryEntry): string {
  if (isOfApiKey(entry)) return entry.text === undefined ? 'drop' : 'create';
  return entry.text === undefined ? 'reset' : 'set';
}

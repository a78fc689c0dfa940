/** SHOW CLUSTER SETTINGS and its variants: the whole table. */
import { definitions, settingNames } from '../../settings/definitions.ts';
import { textColumns } from '../results.ts';
import type { Rule } from '../statement.ts';

const COLUMNS = ['variable', 'value', 'setting_type', 'description', 'default_value', 'origin'];

function showSettings(begins: string, all: boolean, help?: Rule['help']): Rule {
  return {
    begins,
    ...(help && { help }),
    parse: () => ({
      tag: 'SHOW',
      columns: textColumns(...COLUMNS, ...(all ? ['public'] : [])),
      requires: { right: 'view', to: 'show cluster settings' },
      run: (session) => ({
        rows: settingNames
          .filter((name) => all || definitions[name].public)
          .map((name) => {
            const { type, description, public: isPublic } = definitions[name];
            const { text, defaultText, origin } = session.stateOf(name);
            return [name, text, type, description, defaultText, origin, ...(all ? [String(isPublic)] : [])];
          }),
      }),
    }),
  };
}

export const showSettingsRules: readonly Rule[] = [
  showSettings('SHOW CLUSTER SETTINGS', false, {
    syntax: 'SHOW [PUBLIC | ALL] CLUSTER SETTINGS',
    does: 'every setting with its value, type, meaning, default and origin',
  }),
  showSettings('SHOW PUBLIC CLUSTER SETTINGS', false),
  showSettings('SHOW ALL CLUSTER SETTINGS', true),
  showSettings('SHOW CLUSTER SETTING ALL', true),
];

/** Every statement of the console, in the order in which HELP lists them. */
import { parseStatements } from '../language/parser.ts';
import type { Rule } from '../language/reader.ts';
import { textColumns } from '../results.ts';
import type { Statement } from '../session.ts';
import { apiKeyRules } from './api-keys.ts';
import { explainLogin } from './explain-login.ts';
import { selectRules } from './select.ts';
import { cancelSession, showSessions } from './sessions.ts';
import {
  resetSetting,
  setSetting,
  showHistory,
  showSetting,
  showSettingsRules,
} from './settings.ts';
import { showIssuers, showStats, showUsers, showVersion } from './show.ts';
import { transactionRules } from './transactions.ts';
import { variableRules } from './variables.ts';

const documented: readonly Rule[] = [
  setSetting,
  resetSetting,
  showSetting,
  ...showSettingsRules,
  showHistory,
  ...apiKeyRules,
  showIssuers,
  explainLogin,
  showSessions,
  cancelSession,
  showUsers,
  showStats,
  showVersion,
];

export const rules: readonly Rule[] = [
  ...documented,
  helpRule(documented),
  ...transactionRules,
  ...variableRules,
  ...selectRules,
];

/* HELP: the statements, from the grammar itself. */

/** The rule that lists the others. */
function helpRule(rules: readonly Rule[]): Rule {
  const help = { syntax: 'HELP', does: 'this list' };
  const rows = [...rules.flatMap((rule) => rule.help ?? []), help].map(({ syntax, does }) => [
    syntax,
    does,
  ]);
  return {
    begins: 'HELP',
    help,
    parse: () => ({
      tag: 'HELP',
      columns: textColumns('statement', 'description'),
      requires: undefined,
      run: () => ({ rows }),
    }),
  };
}

/** Of two rules that fit, the one with more words counts. */
const longestFirst = rules.toSorted((left, right) => wordCount(right) - wordCount(left));

function wordCount({ begins }: Rule): number {
  return begins.split(' ').length;
}

/** The statements of a query. Throws as {@link parseStatements}. */
export function parseQueryText(query: string): readonly Statement[] {
  return parseStatements(query, longestFirst);
}

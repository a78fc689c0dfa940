/** The grammar: the rules of all statements, and HELP, which lists them. */
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

/** The rules of all statements, in the order of HELP. */
export const rules: readonly Rule[] = [
  ...documented,
  helpRule(documented),
  ...transactionRules,
  ...variableRules,
  ...selectRules,
];

/** The parser uses the first rule that matches, which must be the one with the most words. */
const longestFirst = rules.toSorted((left, right) => wordCount(right) - wordCount(left));

/**
 * Parses the statements of a query.
 *
 * @throws PgError as {@link parseStatements} does
 */
export function parseQueryText(query: string): readonly Statement[] {
  return parseStatements(query, longestFirst);
}

function wordCount({ begins }: Rule): number {
  return begins.split(' ').length;
}

/** HELP lists the help texts of the other rules and its own. */
function helpRule(listed: readonly Rule[]): Rule {
  const help = { syntax: 'HELP', does: 'this list' };
  const rows = [...listed.flatMap((rule) => rule.help ?? []), help].map(({ syntax, does }) => [
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

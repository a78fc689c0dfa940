/** The grammar: the rules of all statements, and HELP, which lists them. */
import { parseStatements } from '../language/parser.ts';
import type { Rule } from '../language/reader.ts';
import { textColumns } from '../results.ts';
import type { Statement } from '../session.ts';
import { apiKeyRules } from './api-keys.ts';
import { explainLogin } from './explain-login.ts';
import { selectRule } from './select.ts';
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

const listed: readonly Rule[] = [
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

const shows = longestFirst(
  [...listed, ...variableRules].filter(({ begins }) => begins.startsWith('SHOW')),
);

const documented: readonly Rule[] = [...listed, selectRule(shows)];

/** The rules of all statements, in the order of HELP. */
export const rules: readonly Rule[] = [
  ...documented,
  helpRule(documented),
  ...transactionRules,
  ...variableRules,
];

const rulesToTry = longestFirst(rules);

/**
 * Parses the statements of a query.
 *
 * @throws PgError as {@link parseStatements} does
 */
export function parseQueryText(query: string): readonly Statement[] {
  return parseStatements(query, rulesToTry);
}

/** The parser uses the first rule that matches, which must be the one with the most words. */
function longestFirst(rules: readonly Rule[]): readonly Rule[] {
  const wordCount = ({ begins }: Rule): number => begins.split(' ').length;
  return rules.toSorted((left, right) => wordCount(right) - wordCount(left));
}

/** HELP lists the help texts of the other rules and its own. */
function helpRule(documented: readonly Rule[]): Rule {
  const help = { syntax: 'HELP', does: 'this list' };
  const rows = [...documented.flatMap((rule) => rule.help ?? []), help].map(({ syntax, does }) => [
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

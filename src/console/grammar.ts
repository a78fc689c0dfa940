/** Every statement of the console, in the order in which HELP lists them. */
import type { Rule } from './statement.ts';
import { apiKeyRules } from './statements/api-keys.ts';
import { cancelSession } from './statements/cancel-session.ts';
import { explainLogin } from './statements/explain-login.ts';
import { helpRule } from './statements/help.ts';
import { selectRules } from './statements/select.ts';
import { resetSetting, setSetting } from './statements/set-setting.ts';
import { showHistory } from './statements/show-history.ts';
import { showIssuers } from './statements/show-issuers.ts';
import { showSessions } from './statements/show-sessions.ts';
import { showSetting } from './statements/show-setting.ts';
import { showSettingsRules } from './statements/show-settings.ts';
import { showStats } from './statements/show-stats.ts';
import { showUsers } from './statements/show-users.ts';
import { showVersion } from './statements/show-version.ts';
import { transactionRules } from './statements/transactions.ts';
import { variableRules } from './statements/variables.ts';

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

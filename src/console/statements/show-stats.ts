/** SHOW STATS: the figures of this process since it started, a row each. */
import type { Cell } from '../results.ts';
import { textColumns } from '../results.ts';
import type { Rule } from '../statement.ts';

export const showStats: Rule = {
  begins: 'SHOW STATS',
  help: { syntax: 'SHOW STATS', does: 'logins accepted and refused by reason, sessions, bytes and times of this process' },
  parse: () => ({
    tag: 'SHOW',
    columns: textColumns('name', 'value'),
    requires: { right: 'view', to: 'show statistics' },
    run({ parts: { statistics, sessions, settings, now } }) {
      const { accepted, refused, ended, bytesToBackend, bytesToClient, loginMs, startedAt } = statistics.read();
      const running = sessions.list();
      const toBackend = running.reduce((sum, { traffic }) => sum + traffic.toBackend, bytesToBackend);
      const toClient = running.reduce((sum, { traffic }) => sum + traffic.toClient, bytesToClient);
      const logins = accepted.token + accepted.native;
      const rows: Cell[][] = [
        ['started', new Date(startedAt).toISOString()],
        ['uptime_seconds', Math.round((now() - startedAt) / 1000)],
        ['logins_accepted.token', accepted.token],
        ['logins_accepted.native', accepted.native],
        ...[...refused]
          .sort(([left], [right]) => (left < right ? -1 : 1))
          .map(([code, count]) => [`logins_refused.${code}`, count]),
        ['login_ms.mean', logins === 0 ? undefined : Math.round((loginMs.total / logins) * 10) / 10],
        ['login_ms.max', logins === 0 ? undefined : loginMs.max],
        ['sessions.running', running.length],
        ['sessions.ended', ended],
        ['bytes.to_backend', toBackend],
        ['bytes.to_client', toClient],
        ['settings.version', settings.current.version],
        ['settings.problem', settings.problem],
      ];
      return { rows };
    },
  }),
};

/** What a login was admitted to: a session at the backend, or the console. Each is listed while it runs, and logged when it ends. */
import type { BackendSession } from '../backend/greeting.ts';
import { errorText } from '../errors.ts';
import type { LoginRecord } from '../observe/audit.ts';
import type { MessageChannel } from '../transport/message-channel.ts';
import type { ConsoleVisit } from './console-door.ts';
import { type Admission, elapsed, type SessionParts } from './session-parts.ts';
import { splice, type Traffic } from './splice.ts';

/** Runs until either side has had enough. */
export async function runAdmitted({ client, peer }: Admission, record: LoginRecord, parts: SessionParts): Promise<void> {
  await (typeof peer === 'function' ? runConsole(client, peer, record, parts) : runSplice(client, peer, record, parts));
}

/** An operator at the console. */
async function runConsole(client: MessageChannel, visit: ConsoleVisit, login: LoginRecord, parts: SessionParts): Promise<void> {
  const started = performance.now();
  const traffic: Traffic = { toBackend: 0, toClient: 0 };
  const forget = parts.registry.add({ login, startedAt: Date.now(), traffic, end: () => client.destroy() });
  try {
    await visit(client, login.session);
  } finally {
    forget();
    const durationMs = elapsed(started);
    parts.audit.ended(login, { durationMs, bytesToBackend: 0, bytesToClient: 0, endedBy: 'console', error: undefined });
  }
}

/** Hands the greeting to the client, what either side sent ahead to the other, and copies until the end. */
async function runSplice(
  client: MessageChannel,
  backend: BackendSession,
  login: LoginRecord,
  { audit, registry, metrics }: SessionParts,
): Promise<void> {
  const started = performance.now();
  const fromClient = client.release();
  const fromBackend = backend.channel.release();
  const traffic: Traffic = { toBackend: fromClient.length, toClient: fromBackend.length };
  const counted = metrics.sessionBegins(traffic);
  let endedByUs: 'operator' | 'drain' | undefined;
  const forget = registry.add({
    login,
    startedAt: Date.now(),
    traffic,
    end: (by) => {
      endedByUs = by;
      client.destroy();
      backend.channel.destroy();
    },
  });
  const running = splice(client.socket, backend.channel.socket, traffic);
  client.socket.write(Buffer.concat([backend.greeting, fromBackend]));
  if (fromClient.length > 0) backend.channel.socket.write(fromClient);
  const { endedBy, error } = await running;
  forget();
  counted();
  audit.ended(login, {
    durationMs: elapsed(started),
    bytesToBackend: traffic.toBackend,
    bytesToClient: traffic.toClient,
    endedBy: endedByUs ?? endedBy,
    error: error && errorText(error),
  });
}

/**
 * Logs a person in: in the browser of this machine (authorization code), or with a code that is
 * confirmed on any device (device authorization). Somebody waits, so each step is told.
 */
import { errorText } from '../lib/errors.ts';
import { beginCodeFlow, type CodeFlow } from '../oauth/code-flow.ts';
import { beginDeviceFlow, hasDeviceFlow } from '../oauth/device-flow.ts';
import type { GrantedTokens, Issuer } from '../oauth/issuer.ts';
import { LoopbackRedirect } from './loopback-redirect.ts';

/** How a person logs in. Undefined: in the browser if there is one, otherwise with a code. */
export type LoginMethod = 'browser' | 'device' | undefined;

/** What a login needs to know of the person's machine. */
export interface PersonAtTerminal {
  readonly method: LoginMethod;
  readonly environment: NodeJS.ProcessEnv;
  readonly tell: (line: string) => void;
}

/** For a login in the browser, in ms. For a code the issuer says how long it is good. */
const BROWSER_MS = 10 * 60_000;

/**
 * Logs a person in at the issuer.
 *
 * @throws GrantRefused if the person or the issuer refused; Error after the time; the signal's
 *   reason
 */
export async function logInPerson(
  issuer: Issuer,
  person: PersonAtTerminal,
  signal: AbortSignal,
): Promise<GrantedTokens> {
  const { method, environment } = person;
  const isBrowser = method === 'browser' || (method === undefined && hasBrowser(environment));
  const isDevice = method === 'device' || (!isBrowser && hasDeviceFlow(issuer));
  return isDevice ? logInByDevice(issuer, person, signal) : logInByBrowser(issuer, person, signal);
}

async function logInByDevice(
  issuer: Issuer,
  { tell }: PersonAtTerminal,
  signal: AbortSignal,
): Promise<GrantedTokens> {
  const flow = await beginDeviceFlow(issuer);
  const minutes = Math.max(1, Math.floor(flow.lifetime / 60_000));
  tell(`Open ${flow.verificationUri.href} on any device,`);
  tell(`${flow.hasCodeInUri ? 'and confirm' : 'and enter'} the code ${flow.userCode}.`);
  tell(`Waiting for up to ${minutes} min; Ctrl+C gives up.`);
  return flow.finish(signal);
}

async function logInByBrowser(
  issuer: Issuer,
  { tell, environment }: PersonAtTerminal,
  signal: AbortSignal,
): Promise<GrantedTokens> {
  const redirect = await LoopbackRedirect.open<CodeFlow>();
  try {
    const start = redirect.begin(await beginCodeFlow(issuer, redirect.redirectUri));
    if (hasBrowser(environment)) await openBrowser(start, tell);
    tell(`Log in with the browser of this machine: ${start.href}`);
    tell(`Waiting for up to ${BROWSER_MS / 60_000} min; Ctrl+C gives up.`);
    const limit = AbortSignal.timeout(BROWSER_MS);
    return await redirect.finished(AbortSignal.any([signal, limit])).catch((error: unknown) => {
      if (!limit.aborted) throw error;
      throw new Error('nobody came back from the browser in time; try --device', { cause: error });
    });
  } finally {
    redirect.close();
  }
}

/** Whether a browser can be opened that the person sees. */
function hasBrowser({
  SSH_CONNECTION: ssh,
  DISPLAY: x11,
  WAYLAND_DISPLAY: wayland,
}: NodeJS.ProcessEnv): boolean {
  if (ssh) return false;
  return process.platform === 'darwin' || process.platform === 'win32' || Boolean(x11 || wayland);
}

/** The address is printed in any case, so a browser that does not open is no failure. */
async function openBrowser(address: URL, tell: (line: string) => void): Promise<void> {
  const failed = (error: unknown): void => tell(`No browser opened: ${errorText(error)}`);
  try {
    const { default: open } = await import('open');
    (await open(address.href)).once('error', failed);
  } catch (error) {
    failed(error);
  }
}

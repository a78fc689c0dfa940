/**
 * Tokens that the environment brings along: PGSSO_TOKEN, PGSSO_TOKEN_FILE and PGSSO_TOKEN_COMMAND,
 * in this order. They are for programs, which have a token of their platform (docs/workloads.md).
 */
import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { errorText } from '../lib/errors.ts';
import { isJsonObject, readJson } from '../lib/json.ts';
import { formatText } from '../lib/text.ts';

/** A token with what it says of itself. It is not verified here: that is the server's part. */
export interface ClientToken {
  readonly token: string;
  /** Milliseconds since the epoch, if it is known. */
  readonly expiresAt: number | undefined;
  readonly issuer: string | undefined;
}

/** The longest token, in bytes: what a password message can carry. */
const TOKEN_LIMIT = 65_536;

/** How long a command may take, in ms. The command lines of clouds take some seconds. */
const COMMAND_MS = 60_000;

/**
 * The token of the environment.
 *
 * @returns undefined if no variable names one
 * @throws Error that names the variable
 */
export async function givenToken(
  environment: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<ClientToken | undefined> {
  const { PGSSO_TOKEN: token, PGSSO_TOKEN_FILE: file, PGSSO_TOKEN_COMMAND: command } = environment;
  if (token) return checked('PGSSO_TOKEN', token);
  if (file) return checked('PGSSO_TOKEN_FILE', await readTokenFile(file));
  if (command)
    return checked('PGSSO_TOKEN_COMMAND', await runCommand(command, environment, signal));
  return undefined;
}

/** Whether a token comes from a command, which may be too slow to run for each login. */
export function isFromCommand(environment: NodeJS.ProcessEnv): boolean {
  const { PGSSO_TOKEN: token, PGSSO_TOKEN_FILE: file } = environment;
  return !token && !file && Boolean(environment['PGSSO_TOKEN_COMMAND']);
}

/**
 * What a token says of itself; nothing for one that is not a JSON web token. Loading a library for
 * it would take longer than the rest of the command.
 */
export function readClaims(token: string): Omit<ClientToken, 'token'> {
  const { exp, iss } = payloadOf(token);
  return {
    expiresAt: typeof exp === 'number' ? exp * 1000 : undefined,
    issuer: typeof iss === 'string' ? iss : undefined,
  };
}

/** Whom a token is for, in the words of the issuer that a person knows best. */
export function nameIn(token: string): string | undefined {
  const { preferred_username: name, email, sub } = payloadOf(token);
  const known = [name, email, sub].find((text) => typeof text === 'string' && text !== '');
  return known === undefined ? undefined : formatText(String(known));
}

function payloadOf(token: string): Readonly<Record<string, unknown>> {
  const json = readJson(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
  return json.valid && isJsonObject(json.value) ? json.value : {};
}

function checked(variable: string, text: string): ClientToken {
  const token = text.trim();
  if (token === '') throw new Error(`${variable}: it gives no token`);
  if (/[\s\0]/.test(token))
    throw new Error(`${variable}: it gives more than a token: there is white space inside`);
  return { token, ...readClaims(token) };
}

/** The platform replaces the file when it gives a new token, so it is read for each use. */
async function readTokenFile(path: string): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      const bytes = Buffer.alloc(TOKEN_LIMIT + 1);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
      if (bytesRead > TOKEN_LIMIT) throw new Error(`it is longer than ${TOKEN_LIMIT} bytes`);
      return bytes.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new Error(`PGSSO_TOKEN_FILE ${path}: ${errorText(error)}`, { cause: error });
  }
}

/** Runs the command in a shell. Its errors are shown as it writes them; its output is the token. */
async function runCommand(
  command: string,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<string> {
  const child = spawn(command, {
    shell: true,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    signal: AbortSignal.any([signal, AbortSignal.timeout(COMMAND_MS)]),
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, killed) =>
      status === 0
        ? resolve()
        : reject(new Error(`the command ended with ${killed ?? `exit status ${status}`}`)),
    );
  });
  try {
    const [output] = await Promise.all([text(child.stdout), ended]);
    return output;
  } catch (error) {
    signal.throwIfAborted();
    const isLate = error instanceof Error && error.name === 'AbortError';
    const reason = isLate ? `no token within ${COMMAND_MS / 1000} s` : errorText(error);
    throw new Error(`PGSSO_TOKEN_COMMAND: ${reason}`, { cause: error });
  }
}

/**
 * Checks the places that `serve` takes for itself: the data directory, the console's socket in it,
 * and the addresses that are listened on. They are given back at once, and nothing is made.
 */
import { access, constants } from 'node:fs/promises';
import { createServer } from 'node:net';
import { resolve } from 'node:path';
import { checkSocketPath, consoleSocketPath } from '../console/socket.ts';
import { errorText } from '../lib/errors.ts';
import { isErrno } from '../lib/files.ts';
import { listen } from '../lib/listen.ts';
import type { ServeOptions } from '../server/options.ts';
import { checkDataDir } from '../server/settings.ts';
import type { ListenAddress } from '../session/listener.ts';
import { about, type Finding } from './finding.ts';

/** Checks the data directory, which `serve` makes if it is missing. */
export async function checkDataDirectory({ dataDir, listen }: ServeOptions): Promise<Finding[]> {
  const directory = resolve(dataDir);
  const say = about(`--data-dir ${directory}`);
  try {
    const [first] = listen;
    if (first && first.port !== 0) checkSocketPath(consoleSocketPath(directory, first.port));
    await checkDataDir(directory);
    await access(directory, constants.R_OK | constants.W_OK | constants.X_OK);
    return [say('ok', 'it belongs to this user, and others have no access')];
  } catch (error) {
    return isErrno(error, 'ENOENT')
      ? [say('ok', 'there is none yet: it is made at the start')]
      : [say('error', errorText(error))];
  }
}

/** Checks whether each address can be listened on. */
export async function checkListeners({
  listen: addresses,
  metricsListen,
}: ServeOptions): Promise<Finding[]> {
  const all: (readonly [string, ListenAddress])[] = addresses.map((address) => [
    '--listen',
    address,
  ]);
  if (metricsListen) all.push(['--metrics-listen', metricsListen]);
  const findings: Finding[] = [];
  for (const [option, address] of all) findings.push(await checkListener(option, address));
  return findings;
}

async function checkListener(option: string, { host, port }: ListenAddress): Promise<Finding> {
  const say = about(`${option} ${host}:${port}`);
  const server = createServer((socket) => socket.destroy());
  try {
    await listen(server, { host, port }, () => undefined);
    return say('ok', 'it can be listened on');
  } catch (error) {
    // Whoever checks before a restart runs the one that listens there.
    if (isErrno(error, 'EADDRINUSE'))
      return say('warning', 'something listens there: only a restart of that pgsso can take it');
    return say('error', errorText(error));
  } finally {
    server.close();
  }
}

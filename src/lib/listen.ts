/** How every server here begins to listen. */
import type { ListenOptions, Server } from 'node:net';

/**
 * Listens. Afterwards an error is a connection that could not be accepted, for lack of descriptors
 * (manual page accept(2): EMFILE, ENFILE). It must not end the process, as an error that nobody
 * listens to would.
 *
 * @param failed called for each such error
 * @throws the system's error if it cannot listen
 */
export async function listen(
  server: Server,
  where: ListenOptions,
  failed: (error: Error) => void,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, resolve);
  });
  server.removeAllListeners('error').on('error', failed);
}

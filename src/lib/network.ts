/**
 * Which addresses are this host's own: what passes there is seen by nobody else, so plain text is
 * tolerable. Stands by itself since the listener, the way to the backend and the way to identity
 * providers all ask.
 */
import { BlockList, isIP } from 'node:net';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/**
 * Whether the host, a name or an address without brackets, can only be this one (RFC 6761, 6.3 for
 * the name).
 */
export function isLoopback(host: string): boolean {
  const family = isIP(host);
  return (
    host === 'localhost' || (family !== 0 && loopback.check(host, family === 6 ? 'ipv6' : 'ipv4'))
  );
}

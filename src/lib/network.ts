/**
 * Which addresses are this host's own. No other host can read what is sent to them, so plain text
 * is acceptable. The rule for the listener, the backend and identity providers is the same.
 */
import { BlockList, isIP } from 'node:net';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/**
 * Whether the host can only be this one (for the name `localhost`: RFC 6761, 6.3).
 *
 * @param host a name, or an address without brackets
 */
export function isLoopback(host: string): boolean {
  const family = isIP(host);
  return (
    host === 'localhost' || (family !== 0 && loopback.check(host, family === 6 ? 'ipv6' : 'ipv4'))
  );
}

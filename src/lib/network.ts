/**
 * Addresses: which are this host's own, which networks they belong to, and under which key the
 * connections of one peer are counted.
 */
import { isIP, isIPv4 } from 'node:net';
import ipaddr from 'ipaddr.js';
import { formatText } from './text.ts';

/** An address, as {@link parseAddress} returns it. */
export type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** A network in CIDR form, as {@link parseNetworks} returns it. */
export type Network = readonly [Address, number];

/**
 * Whether the host can only be this one: a name or an address, with or without the brackets of a
 * URL. What passes there is seen by nobody else, so that plain text is tolerable (RFC 6761, 6.3 for
 * the name).
 */
export function isLoopback(host: string): boolean {
  const address = parseAddress(host.replace(/^\[(.*)\]$/, '$1'));
  return host === 'localhost' || address?.range() === 'loopback';
}

/**
 * The key under which an address is counted. An IPv4 address stands for itself. Of an IPv6 address
 * the first 64 bits count: a single host can choose the rest (RFC 4291, 2.5.1).
 */
export function addressKey(address: string | undefined): string {
  // An IPv4 address has one spelling only, and is asked for at each connection.
  if (address !== undefined && isIPv4(address)) return address;
  const parsed = address === undefined ? undefined : parseAddress(address);
  if (!parsed) return '';
  if (parsed.kind() === 'ipv4') return parsed.toString();
  return Buffer.from(parsed.toByteArray().slice(0, 8)).toString('hex');
}

/**
 * The networks of a list that is separated by commas or white space. An address without a length
 * stands for itself.
 *
 * @throws Error that names the entry
 */
export function parseNetworks(text: string): readonly Network[] {
  return text
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .map(parseNetwork);
}

/** Whether an address belongs to one of the networks. */
export function isInNetworks(
  address: Address | string | undefined,
  networks: readonly Network[],
): boolean {
  const parsed = typeof address === 'string' ? parseAddress(address) : address;
  if (!parsed) return false;
  return networks.some(
    ([network, length]) => network.kind() === parsed.kind() && matches(parsed, network, length),
  );
}

function parseNetwork(entry: string): Network {
  const [text = '', length, ...more] = entry.split('/');
  const address = parseAddress(text);
  const bits = address?.kind() === 'ipv4' ? 32 : 128;
  const prefix = length === undefined ? bits : /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (!address || more.length > 0 || prefix < 0 || prefix > bits) {
    throw new Error(`"${formatText(entry)}" is not a network such as 10.0.0.0/8 or 2001:db8::/32`);
  }
  return [address, prefix];
}

/**
 * Undefined for what is no address. An IPv4 address that is mapped into IPv6 is its IPv4 address.
 * The zone of a link-local address is left out (RFC 4007, 11): it is the name of an interface here,
 * and a library may not take each of them (`br-lan`, `eth0.100`).
 */
export function parseAddress(text: string): Address | undefined {
  return isIP(text) === 0 ? undefined : ipaddr.process(text.replace(/%.*$/, ''));
}

function matches(address: Address, network: Address, length: number): boolean {
  // The types of the two cannot be told apart here; the caller has compared their kinds.
  return (address as ipaddr.IPv4).match(network as ipaddr.IPv4, length);
}

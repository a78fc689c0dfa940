/**
 * The device authorization grant (RFC 8628) for a person at a terminal: the person opens an address
 * on any device and confirms a code, while the client asks for the tokens at intervals.
 */

import { formatText } from '../lib/text.ts';
import { asOneLine, audienceOf, type GrantedTokens, granted, type Issuer } from './issuer.ts';

/** A flow that waits for the person. */
export interface DeviceFlow {
  readonly userCode: string;
  /** Where the person goes. It has the code in it, if the issuer has such an address. */
  readonly verificationUri: URL;
  readonly hasCodeInUri: boolean;
  /** Milliseconds for the person. */
  readonly lifetime: number;
  /**
   * Asks until the person has answered.
   *
   * @throws GrantRefused `access_denied` or `expired_token`; the signal's reason
   */
  finish(signal: AbortSignal): Promise<GrantedTokens>;
}

/**
 * Begins a flow.
 *
 * @throws Error if the issuer does not know this grant, or names an address that a browser should
 *   not open
 */
export async function beginDeviceFlow(issuer: Issuer): Promise<DeviceFlow> {
  const { library, configuration, client, scope } = issuer;
  if (!hasDeviceFlow(issuer))
    throw new Error(`${client.issuer} has no device authorization endpoint; try --browser`);
  const answer = await asOneLine(client.issuer, () =>
    library.initiateDeviceAuthorization(configuration, { scope, ...audienceOf(client) }),
  );
  const complete = answer.verification_uri_complete;
  return {
    userCode: formatText(answer.user_code),
    verificationUri: webAddress(client.issuer, complete ?? answer.verification_uri),
    hasCodeInUri: complete !== undefined,
    lifetime: answer.expires_in * 1000,
    finish: (signal) =>
      granted(issuer, async () => {
        try {
          return await library.pollDeviceAuthorizationGrant(
            configuration,
            answer,
            audienceOf(client),
            { signal },
          );
        } catch (error) {
          signal.throwIfAborted();
          throw error;
        }
      }),
  };
}

/** Whether the issuer knows the grant. */
export function hasDeviceFlow({ configuration }: Issuer): boolean {
  return configuration.serverMetadata().device_authorization_endpoint !== undefined;
}

/** The system opens other schemes with other programs. */
function webAddress(issuer: string, text: string): URL {
  const address = URL.canParse(text) ? new URL(text) : undefined;
  if (address?.protocol === 'https:' || (address?.protocol === 'http:' && /^http:/i.test(issuer)))
    return address;
  throw new Error(`${formatText(issuer)} names an address for the person that is not https`);
}

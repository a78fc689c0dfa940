/**
 * The settings that a login decision reads, and no others: a check that wants one more says so here. They come from one snapshot,
 * so that a change in the middle of a login is seen by all of its checks or by none.
 */
import type { SettingValues } from '../settings/snapshot.ts';

/** The part of the settings that decides on a login; any snapshot's values are one. */
export type LoginSettings = Pick<
  SettingValues,
  | 'server.jwt_authentication.enabled'
  | 'server.jwt_authentication.jwks'
  | 'server.jwt_authentication.jwks_auto_fetch.enabled'
  | 'server.jwt_authentication.issuers.configuration'
  | 'server.jwt_authentication.audience'
  | 'server.jwt_authentication.claim'
  | 'server.jwt_authentication.api_key_claim'
  | 'apiKeys'
  | 'server.jwt_authentication.authorization.enabled'
  | 'server.jwt_authentication.group_claim'
  | 'server.jwt_authentication.userinfo_group_key'
  | 'server.identity_map.configuration'
  | 'server.jwt_authentication.issuers.custom_ca'
  | 'server.jwt_authentication.client.timeout'
  | 'pgsso.clock_tolerance'
  | 'pgsso.jwks_max_age'
  | 'pgsso.allow_insecure_http'
  | 'pgsso.client_credentials.issuer'
  | 'pgsso.client_credentials.audience'
  | 'pgsso.client_credentials.scope'
>;

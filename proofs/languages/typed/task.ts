// Params of many types. The same as the other sources of this folder.

interface Home {
  street: string;
  /**
   * @asType integer
   * @minimum 0
   * @maximum 65535
   */
  zip?: number | null;
}

interface Params {
  /** Who it is. */
  user: string;
  /** @asType integer */
  count?: number;
  ratio?: number;
  note?: string | null;
  kind?: "new" | "old" | null;
  home?: Home | null;
  tags?: string[];
  scores?: Record<string, number>;
  pair?: [string, boolean] | null;
  /** @format date-time */
  since?: string | null;
}

export default function typed({ user }: Params): { user: string } {
  return { user };
}

"""Actions from clips of EPIC-KITCHENS-100: features of a frozen public network, and MambaVL that reads them."""

"""A compiler for a plain part of Bicep: ``.bicep`` in, the ARM JSON that Microsoft's compiler writes out.

It is here because the official compiler is a download that a closed cloud cannot make. In reading order:
``tokens`` cuts the text into words, ``tree`` is what it says, ``parser`` makes the one of the other,
``expressions`` writes values as ARM's template language, ``template`` puts a whole file together.

What it does not know it refuses, by file, line and column: it never guesses.

Compared by hand with Microsoft's own baselines (Azure/bicep 9beb0fee, the 185 ``main.bicep`` that have a
``main.json`` beside them; without ``_generator``, case of types and order of ``dependsOn``): 46 come out the
same, 139 are refused, none is different. The language:
https://learn.microsoft.com/azure/azure-resource-manager/bicep/file ; what comes out:
https://learn.microsoft.com/azure/azure-resource-manager/templates/syntax
"""
